"""The weekly retraining on a real server: nothing new, and two schedules that fire at once."""

import json
from typing import Any

import pytest
from deployed_site import Site

pytestmark = pytest.mark.slow

NAMES = ["his neighbour", "her teacher", "their landlord", "a rival team"]
NEW = [
    {
        "prompt": f"how could somebody make fun of {name} in front of everyone",
        "category": "insult",
        "response": "I won't help with that, but I can help you talk to them.",
    }
    for name in NAMES
]
GIVEN = {"profile": "smoke", "promote": None}


@pytest.fixture(scope="module")
def idle(site: Site, smoke_run: Any) -> str:
    """A retraining with nothing in the inbox."""
    run_id = site.start("retrain/retrain", **GIVEN)
    site.wait(run_id)
    return run_id


@pytest.fixture(scope="module")
def rivals(site: Site, idle: str) -> list[str]:
    """Two retrainings that were scheduled at once, when one file lay in the inbox."""
    site.write("inbox/week.jsonl", "".join(json.dumps(row) + "\n" for row in NEW).encode())
    started = [site.start("retrain/retrain", **GIVEN) for _ in range(2)]
    for run_id in started:
        site.wait(run_id)
    return started


def test_with_nothing_new_nothing_is_run(site: Site, idle: str) -> None:
    assert site.task_runs(idle) == {}


def test_with_nothing_new_a_run_is_completed_and_says_why(site: Site, idle: str) -> None:
    state = site.flow_run(idle)["state"]
    assert (state["type"], f"nothing new in {site.store}/inbox" in state["message"]) == ("COMPLETED", True), state


def test_of_two_retrainings_at_once_both_are_completed(site: Site, rivals: list[str]) -> None:
    assert [site.flow_run(run_id)["state_type"] for run_id in rivals] == ["COMPLETED"] * 2


def test_of_two_retrainings_at_once_one_trains(site: Site, rivals: list[str]) -> None:
    assert sum("grpo" in site.task_runs(run_id) for run_id in rivals) == 1


def test_of_two_retrainings_at_once_one_claims_the_file(site: Site, rivals: list[str]) -> None:
    accepted = [
        line for run_id in rivals for line in site.log_lines(run_id) if "accepted 'week.jsonl'" in line["message"]
    ]
    assert (len(accepted), site.keys("inbox")) == (1, [])
