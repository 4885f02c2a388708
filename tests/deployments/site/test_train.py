"""`prefect deployment run train/train --watch`: its exit status, what it leaves, what it says."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from deployed_site import Site, until
from services import ROOT

from dr_irl.categories import HARM_CATEGORIES

pytestmark = pytest.mark.slow

Refused = dict[str, CompletedProcess[str]]


def test_a_watched_run_leaves_its_record_in_the_store(site: Site, smoke_run: Any) -> None:
    [key] = smoke_run.records
    assert json.loads(site.read(key))["settings"]["profile"] == "smoke"


def test_the_example_for_ci_says_where_the_run_and_its_report_are(site: Site, smoke_run: Any) -> None:
    said = dict(line.split(": ", 1) for line in smoke_run.command.stdout.splitlines()[-4:])
    assert smoke_run.run_id in said["run"]
    opened = site.run(*said["open"].split(), "--no-open")
    assert opened.returncode == 0 and Path(opened.stdout.strip()).is_file(), opened.stderr
    key = said["report"].strip().removeprefix(f"{site.store}/")
    assert site.read(key).startswith(b"<!DOCTYPE html>")


def test_what_ci_prints_is_what_happened_and_progress_once_a_minute(smoke_run: Any) -> None:
    lines = smoke_run.command.stdout.splitlines()
    at = [found[1] for line in lines if (found := re.match(r"(\S+) \S.* \d+/\d+ \w+", line))]
    minutes = [datetime.strptime(time, "%H:%M:%S") for time in at]
    assert all(later - earlier >= timedelta(minutes=1) for earlier, later in pairwise(minutes)), at
    assert any("grpo" in line and "built" in line for line in lines)
    assert len(lines) < 80, len(lines)


def test_an_address_that_is_no_prefect_server_is_told_in_a_sentence(site: Site) -> None:
    script = ROOT / "deployments" / "ci" / "train-and-wait.sh"
    said = site.run(script, "train/train", PREFECT_API_URL=f"{site.address}/nowhere/api")
    [line] = said.stderr.splitlines()
    assert (said.returncode, line.startswith("no Prefect server answers at ")) == (2, True), said.stderr


def test_a_deployment_that_does_not_exist_is_told_in_a_sentence(site: Site) -> None:
    said = site.watch("train/nosuch")
    assert (said.returncode, "Traceback" in said.stderr, "train/nosuch" in said.stderr) == (1, False, True), said.stderr


def test_a_run_is_named_for_what_and_when(site: Site, smoke_run: Any) -> None:
    run = site.flow_run(smoke_run.run_id)
    assert "smoke" in run["name"] and run["expected_start_time"][:10] in run["name"]


def test_the_library_reports_progress_on_the_page_of_the_run(site: Site, smoke_run: Any) -> None:
    assert until(lambda: [line for line in site.log_lines(smoke_run.run_id) if line["name"] == "dr_irl.progress"])


def test_no_line_of_a_good_run_is_a_warning(site: Site, smoke_run: Any) -> None:
    assert [line["message"] for line in site.log_lines(smoke_run.run_id) if line["level"] >= 30] == []


def test_the_scaling_factors_stand_on_the_page_of_the_run(site: Site, smoke_run: Any) -> None:
    rows = json.loads(site.artifacts(smoke_run.run_id)["scaling-factors"]["data"])
    assert rows and {row["category"] for row in rows} <= set(HARM_CATEGORIES)


def test_a_second_run_computes_nothing(site: Site, smoke_run: Any) -> None:
    before = site.keys("objects")
    assert site.wait(site.start("train/train", profile="smoke"))["state_type"] == "COMPLETED"
    assert site.keys("objects") == before


@pytest.fixture(scope="module")
def refused(site: Site, smoke_run: Any) -> Refused:
    """Runs that cannot succeed, side by side."""
    missing = {"models.policy": "nobody/no-such-model"}
    given = {
        "schema": {"profile": "smoke", "refresh": "grpo"},
        "profile": {"profile": "nope"},
        "setting": {"profile": "smoke", "overrides": {"grpo.stepz": 3}},
        "models": {"profile": "smoke", "overrides": missing},
        "gate": {"profile": "smoke", "promote": "safe"},
    }
    with ThreadPoolExecutor(3) as pool:
        commands = pool.map(lambda parameters: site.watch("train/train", **parameters), given.values())
        return dict(zip(given, commands, strict=True))


@pytest.mark.parametrize(
    ("what", "status", "sentence"),
    [
        ("schema", 1, "Validation failed for field 'refresh'"),
        ("profile", 1, "profile 'nope' is unknown; allowed are "),
        ("setting", 1, "grpo.stepz"),
        ("models", 1, "nobody/no-such-model"),
        ("gate", 3, "may not replace the unaligned model: 23 of 27 checks failed: safety: insult ("),
    ],
)
def test_a_run_that_cannot_succeed_ends_with_its_status_and_a_sentence(
    what: str, status: int, sentence: str, refused: Refused
) -> None:
    said = " ".join((refused[what].stdout + refused[what].stderr).split())
    assert (refused[what].returncode, sentence in said) == (status, True), said


@pytest.mark.parametrize("what", ["profile", "setting", "models", "gate"])
def test_an_error_of_the_user_has_no_traceback(what: str, refused: Refused) -> None:
    assert "Traceback" not in refused[what].stdout + refused[what].stderr


def test_a_result_that_fails_the_gate_is_not_published(site: Site, refused: Refused) -> None:
    assert site.keys("models/safe") == []


def test_without_the_limit_of_grpo_a_run_fails_and_names_it(site: Site, smoke_run: Any) -> None:
    site.run("prefect", "global-concurrency-limit", "delete", "dr-irl-grpo")
    try:
        command = site.watch("train/train", profile="smoke", overrides={"grpo.steps": 2}, only=["grpo"])
    finally:
        site.bootstrap()
    assert (command.returncode, "dr-irl-grpo" in command.stdout) == (1, True), command.stdout


def test_a_run_that_waits_for_the_slot_of_grpo_says_so_and_goes_on(site: Site, smoke_run: Any) -> None:
    slot = {"names": ["dr-irl-grpo"], "slots": 1, "mode": "concurrency"}
    site.ask("v2/concurrency_limits/increment", slot)
    try:
        run_id = site.start("train/train", profile="smoke", overrides={"grpo.steps": 5}, only=["grpo"])
        waiting = until(lambda: (run := site.flow_run(run_id))["state"]["name"] == "WaitingForSlot" and run)
        assert "dr-irl-grpo" in waiting["state"]["message"]
    finally:
        site.ask("v2/concurrency_limits/decrement", slot)
    assert site.wait(run_id)["state"]["name"] == "Completed"
    assert site.state_names(run_id)[-3:] == ["WaitingForSlot", "Running", "Completed"]


def test_two_runs_at_once_build_every_artifact_once(site: Site, smoke_run: Any) -> None:
    started = [site.start("train/train", profile="smoke", overrides={"grpo.steps": 4}) for _ in range(2)]
    ended = [site.wait(run_id)["state_type"] for run_id in started]
    built = [
        name
        for run_id in started
        for name, run in site.task_runs(run_id).items()
        if run["state"]["name"] == "Completed"
    ]
    assert (ended, sorted(built)) == (["COMPLETED"] * 2, ["evaluation aligned", "grpo", "report"])
