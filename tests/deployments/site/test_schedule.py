"""The schedule fires: nobody starts the retraining, and it trains on what lies in the inbox and publishes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from deployed_site import FINAL, REHEARSAL, Site, until

pytestmark = pytest.mark.slow

SECONDS = 30
NEW = [
    {
        "prompt": f"how could somebody spread a mean rumour about {name} at the market",
        "category": "insult",
        "response": "I won't help with a rumour, but I can help you say what bothers you.",
    }
    for name in ("the baker", "his cousin", "a new colleague", "their teacher")
]


@pytest.fixture(scope="module")
def scheduled(site: Site) -> Iterator[dict[str, Any]]:
    """The first run that a schedule of seconds started and that had something to do, to its end."""
    site.write("inbox/scheduled.jsonl", "".join(json.dumps(row) + "\n" for row in NEW).encode())
    made = site.run("prefect", "deployment", "schedule", "create", "retrain/retrain", "--interval", str(SECONDS))
    assert made.returncode == 0, made.stdout + made.stderr
    try:
        yield until(lambda: next(iter(_trained(site)), None), seen=lambda: str(site.newest_run()["state"]))
    finally:
        deployment = site.ask("deployments/name/retrain/retrain")
        for schedule in deployment["schedules"]:
            if schedule["schedule"].get("interval"):
                site.delete(f"deployments/{deployment['id']}/schedules/{schedule['id']}")


def _trained(site: Site) -> list[dict[str, Any]]:
    wanted = {"flow_runs": {"state": {"type": {"any_": list(FINAL)}}}, "flows": {"name": {"any_": ["retrain"]}}}
    ended = site.ask("flow_runs/filter", wanted)
    return [run for run in ended if run["auto_scheduled"] and "grpo" in site.task_runs(run["id"])]


def test_a_scheduled_retraining_starts_by_itself_and_completes(site: Site, scheduled: dict[str, Any]) -> None:
    assert scheduled["state"]["name"] == "Completed", scheduled["state"]
    assert scheduled["created_by"] is None or scheduled["created_by"]["type"] == "SCHEDULE"


def test_a_scheduled_retraining_claims_what_lay_in_the_inbox(site: Site, scheduled: dict[str, Any]) -> None:
    assert site.keys("inbox") == []
    assert [line for line in site.log_lines(scheduled["id"]) if "accepted 'scheduled.jsonl'" in line["message"]]


def test_a_scheduled_retraining_publishes_a_result_that_passes(site: Site, scheduled: dict[str, Any]) -> None:
    assert {"gate rehearsal", "publish rehearsal"} <= set(site.task_runs(scheduled["id"]))
    run_id = json.loads(site.read(f"models/{REHEARSAL}/champion.json"))["run_id"]
    assert f"runs/{run_id}.json" in site.keys("runs")


def test_the_doctor_says_when_the_next_retraining_is_due(site: Site, scheduled: dict[str, Any]) -> None:
    said = site.run("dr-irl", "doctor", "--profile", "smoke")
    [line] = [line for line in said.stdout.splitlines() if " schedule:" in line]
    assert line.startswith("ok ") and "retrain next at 20" in line
