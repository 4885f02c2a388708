"""What is made of Prefect's lines in the log of a run."""

import logging

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Pending, Running

from tasks.orchestration.logs import log_at_info


def said(
    logger: str, message: str, caplog: pytest.LogCaptureFixture, stage: str | None = None
) -> list[tuple[int, str]]:
    """Log a line as Prefect does; gives level and text of what comes of it."""
    log_at_info()
    with caplog.at_level(logging.INFO, "prefect"):
        logging.getLogger(logger).log(logging.INFO, message, extra={"task_run_name": stage} if stage else {})
    return [(record.levelno, record.message) for record in caplog.records]


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (Completed(message="reward/insult 4429 built"), (20, "reward/insult 4429 built")),
        (Completed(), (20, "reward insult completed")),
        (Completed(name="Cached"), (20, "reward insult was in the store already")),
        (Cancelled(message="it's over"), (20, "reward insult was cancelled: it's over")),
        (Failed(message="no column 'a', (b)"), (40, "reward insult failed: no column 'a', (b)")),
        (Failed(message="too long", name="TimedOut"), (40, "reward insult ran out of time: too long")),
        (Crashed(message="gone"), (40, "reward insult crashed: gone")),
        (Failed(name="Odd", message="so"), (40, "reward insult ended as Odd: so")),
    ],
)
def test_how_a_stage_ended_is_a_sentence_that_names_it(
    state: State, line: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert said("prefect.task_runs", f"Finished in state {state}", caplog, "reward insult ") == [line]


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (Completed(), (20, "the run completed")),
        (Completed(message="nothing new"), (20, "the run completed: nothing new")),
        (Failed(message="no column"), (40, "the run failed: no column")),
    ],
)
def test_how_a_run_ended_is_a_sentence(state: State, line: tuple[int, str], caplog: pytest.LogCaptureFixture) -> None:
    assert said("prefect.flow_runs", f"Finished in state {state}", caplog) == [line]


@pytest.mark.parametrize("state", [Pending(name="NotReady", message="Upstream task run 'a'"), Running(), Cancelling()])
def test_what_has_not_ended_is_not_said_to_have(state: State, caplog: pytest.LogCaptureFixture) -> None:
    assert said("prefect.task_runs", f"Finished in state {state}", caplog, "grpo ") == []


def test_a_run_that_its_worker_cancels_says_so_in_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    [(level, line)] = said("prefect.flow_runs", "Flow run was cancelled.", caplog)
    assert (level, line.startswith("the run was cancelled: finished stages and the last checkpoint")) == (20, True)


def test_a_retry_names_its_stage(caplog: pytest.LogCaptureFixture) -> None:
    line = "Task run failed with state: Failed(message='x') - Retry 1/4 will start 15.0 second(s) from now"
    expected = [(20, "grpo: try 1/4 will start 15.0 second(s) from now")]
    assert said("prefect.task_runs", line, caplog, "grpo ") == expected


def test_what_we_log_ourselves_stays(caplog: pytest.LogCaptureFixture) -> None:
    assert said("prefect.flow_runs", "accepted 'week.jsonl'", caplog) == [(20, "accepted 'week.jsonl'")]


def test_only_our_own_loggers_are_set_to_info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("tasks"), "level", logging.NOTSET)
    log_at_info()
    levels = [logging.getLogger(name).getEffectiveLevel() for name in ("tasks.orchestration.caching", "httpx")]
    assert levels == [logging.INFO, logging.WARNING]


def test_a_level_that_somebody_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("tasks"), "level", logging.ERROR)
    log_at_info()
    assert logging.getLogger("tasks").level == logging.ERROR
