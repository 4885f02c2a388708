"""Progress on the page of a run, against a real server and against none."""

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.testing.utilities import prefect_test_harness

from dr_irl.progress import SilentProgress
from tasks.orchestration import progress
from tasks.orchestration.progress import PageProgress, Standing, current_progress, report_to


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


@task
def count(steps: int) -> None:
    with PageProgress().stage("GRPO", steps, "steps") as meter:
        for _ in range(steps):
            meter.advance()


@flow
def counting(steps: int) -> None:
    count(steps)


KEY = "progress-reward-physical-harm"
SEEN: list[dict[str, Any]] = []
"""Bars as they were in the middle of a stage."""
TRIES: list[None] = []
"""One for each time that a server that is away was asked."""


def wait_until(happened: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.05)


@task
def stop_halfway(error: Exception | None) -> None:
    with PageProgress().stage("reward physical_harm", 4, "steps") as meter:
        meter.advance(2, loss=0.25)
        wait_until(lambda: any("2/4" in bar["description"] for bar in bars(KEY)))
        SEEN.extend(bars(KEY))
        if error is not None:
            raise error


@flow
def stopping_halfway(error: Exception | None = None) -> None:
    stop_halfway(error)


@task
def wait_for_tries(count: int) -> None:
    with PageProgress().stage("GRPO", 1, "steps"):
        wait_until(lambda: len(TRIES) >= count if count else bars("progress-grpo"))


@flow
def waiting(count: int) -> None:
    wait_for_tries(count)


def bars(key: str) -> list[dict[str, Any]]:
    with get_client(sync_client=True) as client:
        return client._client.post("/artifacts/filter", json={"artifacts": {"key": {"any_": [key]}}}).json()


@pytest.fixture(scope="module")
def bar(prefect: None) -> dict[str, Any]:
    """What there is in the middle of a stage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 1.0)
        stopping_halfway()
    [seen] = SEEN
    return seen


def test_a_stage_that_runs_has_a_bar(bar: dict[str, Any]) -> None:
    assert bar["data"] == 50.0


def test_a_bar_says_units_and_readings(bar: dict[str, Any]) -> None:
    assert bar["description"] == "reward physical_harm 2/4 steps loss 0.25"


def test_a_bar_belongs_to_its_task(bar: dict[str, Any]) -> None:
    assert bar["task_run_id"] is not None


def test_a_stage_that_ended_has_no_bar(bar: dict[str, Any]) -> None:
    assert bars(KEY) == []


def test_a_stage_that_failed_has_no_bar(bar: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="halfway"):
        stopping_halfway(RuntimeError("halfway"))
    assert bars(KEY) == []


def test_steps_are_not_sent_one_by_one(prefect: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(SyncPrefectClient, "update_artifact", lambda *given, **named: sent.append(given))
    counting(500)
    assert len(sent) <= 1


@pytest.mark.parametrize("away", ["create_artifact", "update_artifact", "delete_artifact"])
def test_a_server_that_is_away_ends_no_task_and_is_logged_once(
    away: str, prefect: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_answer(*_: object, **__: object) -> None:
        TRIES.append(None)
        raise httpx.ConnectError("no route to the server")

    TRIES.clear()
    monkeypatch.setattr(SyncPrefectClient, away, no_answer)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 1.0 if away == "create_artifact" else 0.2)
    with caplog.at_level(logging.WARNING, "dr_irl.progress"):
        waiting(0 if away == "delete_artifact" else 2)
    assert caplog.text.count("does not move for now: no route to the server") == 1


def test_outside_a_task_no_server_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "get_client", lambda **_: pytest.fail("a server was asked for"))
    with PageProgress().stage("GRPO", 1, "steps") as meter:
        meter.advance()


def test_progress_on_a_terminal_stays_there() -> None:
    silent = SilentProgress()
    report_to(silent)
    try:
        assert current_progress() is silent
    finally:
        progress._progress.set(None)


def test_a_stage_that_ends_says_so_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dr_irl.progress"), PageProgress().stage("GRPO", 2, "steps") as meter:
        meter.advance()
        meter.advance(kl=0.5)
    assert caplog.messages == ["GRPO 2/2 steps kl 0.5"]


def test_a_stage_without_readings_says_how_far_it_is() -> None:
    assert Standing("GRPO", 10, "steps", done=4).line() == "GRPO 4/10 steps"
