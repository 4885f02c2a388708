"""Progress on the page of a run, against a real server and against none."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.testing.utilities import prefect_test_harness

from dr_irl.progress import SilentProgress
from tasks import reporting
from tasks.reporting import PageProgress, Standing, current_progress, report_to


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


@task
def count(steps: int, name: str, total: int | None = None) -> None:
    with PageProgress().stage(name, total or steps, "steps") as meter:
        for _ in range(steps):
            meter.advance(loss=0.25)


@flow
def counting(steps: int, name: str) -> None:
    count(steps, name)


@flow
def with_total(total: int) -> None:
    count(3, "samples", total)


TRIES: list[None] = []
"""One for each time that a server that is away was asked."""


@task
def wait_for_three() -> None:
    with PageProgress().stage("GRPO", 1, "steps"):
        deadline = time.monotonic() + 30
        while len(TRIES) < 3 and time.monotonic() < deadline:
            time.sleep(0.001)


@flow
def waiting() -> None:
    wait_for_three()


def bars() -> list[dict[str, Any]]:
    with get_client(sync_client=True) as client:
        found = client._client.post("/artifacts/filter", json={"artifacts": {"type": {"any_": ["progress"]}}})
        return sorted(found.json(), key=lambda bar: bar["created"])


def test_a_task_has_a_bar_that_ends_full(prefect: None) -> None:
    counting(3, "reward physical_harm")
    bar = bars()[-1]
    assert (bar["key"], bar["data"]) == ("progress-reward-physical-harm", 100.0)


def test_a_bar_says_units_and_readings(prefect: None) -> None:
    counting(2, "GRPO")
    assert bars()[-1]["description"] == "GRPO 2/2 steps loss 0.25"


def test_a_stage_that_needed_less_than_its_total_ends_full(prefect: None) -> None:
    with_total(10)
    assert bars()[-1]["data"] == 100.0


def test_a_bar_belongs_to_its_task(prefect: None) -> None:
    counting(1, "GRPO")
    assert bars()[-1]["task_run_id"] is not None


def test_steps_are_not_sent_one_by_one(prefect: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(SyncPrefectClient, "update_artifact", lambda *given, **named: sent.append(given))
    counting(500, "GRPO")
    assert len(sent) <= 1


def test_a_server_that_is_away_ends_no_task(
    prefect: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object, **__: object) -> None:
        TRIES.append(None)
        raise httpx.ConnectError("no route to the server")

    monkeypatch.setattr(SyncPrefectClient, "create_artifact", away)
    monkeypatch.setattr(reporting, "SECONDS_BETWEEN_UPDATES", 0.01)
    with caplog.at_level(logging.WARNING, "dr_irl.progress"):
        waiting()
    assert caplog.text.count("cannot be moved for now: no route to the server") == 1


def test_outside_a_task_no_server_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "get_client", lambda **_: pytest.fail("a server was asked for"))
    with PageProgress().stage("GRPO", 1, "steps") as meter:
        meter.advance()


def test_progress_on_a_terminal_stays_there() -> None:
    silent = SilentProgress()
    report_to(silent)
    try:
        assert current_progress() is silent
    finally:
        reporting._progress.set(None)


def test_a_stage_that_ends_says_so_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dr_irl.progress"), PageProgress().stage("GRPO", 2, "steps") as meter:
        meter.advance()
        meter.advance(kl=0.5)
    assert caplog.messages == ["GRPO 2/2 steps kl 0.5"]


def test_a_stage_without_readings_says_how_far_it_is() -> None:
    assert Standing("GRPO", 10, "steps", done=4).line() == "GRPO 4/10 steps"
