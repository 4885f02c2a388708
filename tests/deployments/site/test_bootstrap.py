"""`deployments/bootstrap.sh`: what it leaves on a server, and what it refuses."""

import subprocess
from pathlib import Path

import pytest
from deployed_site import Site
from services import ROOT, clean_environment, run_sql

BOOTSTRAP = ROOT / "deployments" / "bootstrap.sh"


@pytest.mark.slow
def test_the_ui_answers(site: Site) -> None:
    assert "<title>" in site.page("/")


@pytest.mark.slow
def test_the_server_keeps_its_state_in_postgresql(site: Site) -> None:
    kept = run_sql(site.database_port, "select name from deployment order by name")
    assert {"train", "retrain", "evaluate", "ablate"} <= set(kept.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("what", ["work_pools", "v2/concurrency_limits", "automations", "deployments"])
def test_bootstrapped_twice_nothing_is_there_twice(what: str, site: Site) -> None:
    names = [found["name"] for found in site.ask(f"{what}/filter", {})]
    assert names and len(names) == len(set(names))


@pytest.mark.slow
def test_the_form_of_train_describes_every_parameter(site: Site) -> None:
    schema = site.ask("deployments/name/train/train")["parameter_openapi_schema"]["properties"]
    assert [name for name, field in schema.items() if not field.get("description")] == []


@pytest.mark.slow
def test_retraining_is_scheduled_in_a_time_zone(site: Site) -> None:
    [schedule] = site.ask("deployments/name/retrain/retrain")["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 3 * * 1", "Etc/UTC")


@pytest.mark.slow
def test_the_variables_of_bootstrap_decide_what_starts_and_when(site: Site) -> None:
    given = {
        "DR_IRL_PROFILE": "demo",
        "DR_IRL_PROMOTE": "other",
        "DR_IRL_SCHEDULE": "30 4 * * 2",
        "DR_IRL_TIMEZONE": "Europe/Berlin",
        "DR_IRL_GRPO_AT_ONCE": "3",
    }
    try:
        assert (made := site.run(BOOTSTRAP, **given)).returncode == 0, made.stderr
        deployment, limit = site.ask("deployments/name/retrain/retrain"), site.ask("v2/concurrency_limits/dr-irl-grpo")
    finally:
        site.run(BOOTSTRAP, DR_IRL_GRPO_AT_ONCE="1")
    [schedule] = [found["schedule"] for found in deployment["schedules"]]
    assert (schedule["cron"], schedule["timezone"], limit["limit"]) == ("30 4 * * 2", "Europe/Berlin", 3)
    assert (deployment["parameters"]["profile"], deployment["parameters"]["promote"]) == ("demo", "other")


@pytest.mark.slow
def test_a_profile_that_does_not_exist_is_told_by_bootstrap_and_not_on_monday(site: Site) -> None:
    refused = site.run(BOOTSTRAP, DR_IRL_PROFILE="nope")
    assert (refused.returncode, "profile 'nope' is unknown" in refused.stderr) == (2, True)


@pytest.mark.slow
def test_a_schedule_that_somebody_paused_stays_paused_and_the_doctor_says_so(site: Site) -> None:
    [schedule] = site.ask("deployments/name/retrain/retrain")["schedules"]
    paused = site.run("prefect", "deployment", "schedule", "pause", "retrain/retrain", schedule["id"])
    assert paused.returncode == 0, paused.stdout + paused.stderr
    site.bootstrap()
    deployment = site.ask("deployments/name/retrain/retrain")
    [schedule] = deployment["schedules"]
    seen = site.run("dr-irl", "doctor", "--profile", "smoke")
    resumed = site.run("prefect", "deployment", "schedule", "resume", "retrain/retrain", schedule["id"])
    assert (schedule["active"], seen.returncode, resumed.returncode) == (False, 2, 0), seen.stdout + resumed.stderr
    assert "its schedule is paused" in seen.stdout


@pytest.mark.slow
def test_doctor_finds_the_site_well(site: Site) -> None:
    checked = site.run("dr-irl", "doctor", "--profile", "smoke")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
def test_doctor_names_a_pool_that_is_missing_and_the_command_that_mends_it(site: Site) -> None:
    checked = site.run("dr-irl", "doctor", "--profile", "smoke", "--pool", "nowhere")
    [line] = [line for line in checked.stdout.splitlines() if "nowhere" in line]
    assert (checked.returncode != 0, "bootstrap.sh" in line) == (True, True), checked.stdout + checked.stderr


@pytest.mark.slow
def test_a_worker_of_a_pool_that_does_not_exist_is_refused_and_makes_none(site: Site) -> None:
    refused = site.run("dr-irl", "worker", "--pool", "nosuch")
    [line] = refused.stderr.splitlines()
    assert (refused.returncode, "has no work pool 'nosuch'; it has: " in line, "dr-irl" in line) == (2, True, True)
    assert "nosuch" not in [pool["name"] for pool in site.ask("work_pools/filter", {})]


def test_a_worker_without_a_server_is_told_to_name_one(tmp_path: Path) -> None:
    environment = clean_environment(PREFECT_HOME=str(tmp_path))
    refused = subprocess.run(["dr-irl", "worker"], env=environment, capture_output=True, text=True)
    [line] = refused.stderr.splitlines()
    assert (refused.returncode, "PREFECT_API_URL is not set" in line) == (2, True)


def test_a_store_that_only_one_folder_can_reach_is_refused(tmp_path: Path) -> None:
    refused = _bootstrap(tmp_path, PREFECT_API_URL="http://127.0.0.1:1/api", DR_IRL_STORE="here")
    assert (refused.returncode, "DR_IRL_STORE is 'here'" in refused.stderr) == (2, True)


def test_bootstrap_asks_for_the_server_it_should_prepare(tmp_path: Path) -> None:
    refused = _bootstrap(tmp_path)
    assert refused.returncode != 0
    assert "PREFECT_API_URL: set it to the address of the Prefect server" in refused.stderr


def _bootstrap(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    given = clean_environment(PREFECT_HOME=str(home), **environment)
    return subprocess.run([BOOTSTRAP], env=given, capture_output=True, text=True)
