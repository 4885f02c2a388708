"""How failures end: which are tried again, which limits hold, and what the page and the caller are told."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.testing.utilities import prefect_test_harness

from dr_irl.artifacts import Store
from dr_irl.errors import (
    CollapseError,
    DataError,
    DivergenceError,
    InterruptedRunError,
    StageTimeoutError,
    StoreError,
    StoreUnreachableError,
)
from dr_irl.profile import load_settings
from tasks.orchestration import failures
from tasks.orchestration.caching import stage_task
from tasks.orchestration.failures import (
    ending_in_a_sentence,
    passes_by_itself,
    state_of,
    survive_full_memory,
    with_half_at_once,
)
from tasks.orchestration.logs import log_at_info
from tasks.orchestration.opening import open_store
from tasks.orchestration.results import result_storage
from tasks.stages import Stage

SETTINGS = load_settings("smoke", {})

FAILING = """
import torch
from dr_irl.errors import DataError, StoreUnreachableError
CALLS = []

def make(folder, job):
    CALLS.append(job.settings.grpo.micro_batch_tokens)
    error = ERRORS.pop(0)
    if error is not None:
        raise error
    with job.progress.stage("counting", 3, "steps") as meter:
        for _ in range(3):
            meter.advance()
    (folder / "done.txt").write_text("done")
"""


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect: None) -> Iterator[Any]:
    """The module of a stage that raises `ERRORS` one by one; where there is none it ends well."""
    (tmp_path / "failing_stage.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(failures.RETRIES, "retry_delay_seconds", [0])
    import failing_stage  # pyright: ignore[reportMissingImports]

    yield failing_stage
    sys.modules.pop("failing_stage", None)
    stage_task.cache_clear()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def run(store: Store, module: Any, *errors: Exception | None, **changes: Any) -> State[Any]:
    """Run the stage in a flow, and return its task's state."""
    module.ERRORS = [*errors]
    stage = Stage("failing", "failing_stage:make", lambda s, _: {"seed": s.seed})
    settings = load_settings("smoke", {name.replace("__", "."): value for name, value in changes.items()})
    states: list[State[Any]] = []

    @flow
    def once() -> None:
        task = stage_task(stage).with_options(result_storage=result_storage(store))
        states.append(task(settings, store.uri, {}, "", False, return_state=True))

    once()
    return states[0]


@pytest.mark.parametrize(
    "error",
    [
        StoreUnreachableError("the server kept answering that it is overloaded"),
        ConnectionResetError("reset by peer"),
        TimeoutError("no answer"),
        httpx.ConnectError("no route"),
    ],
)
def test_failures_of_network_and_servers_pass_by_themselves(error: Exception) -> None:
    assert passes_by_itself(error)


@pytest.mark.parametrize(
    "error",
    [
        DataError("no column"),
        StoreError("access is denied"),
        DivergenceError("loss nan"),
        CollapseError("all alike"),
        InterruptedRunError("stopped"),
        StageTimeoutError("too long"),
        torch.OutOfMemoryError("CUDA out of memory"),
        AssertionError(),
        KeyError("prompt"),
        PermissionError("read-only"),
    ],
)
def test_nothing_else_passes_by_itself(error: Exception) -> None:
    assert not passes_by_itself(error)


def test_a_failure_that_passes_is_tried_again(store: Store, module: Any) -> None:
    assert run(store, module, StoreUnreachableError("cannot read"), None).is_completed()


def test_what_passed_stands_in_the_state(store: Store, module: Any) -> None:
    state = run(store, module, StoreUnreachableError("cannot read"), None)
    assert str(state.message).endswith(" built, after a failure that passed: cannot read")


def test_the_reason_of_a_retry_is_logged(store: Store, module: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tasks.orchestration.failures"):
        run(store, module, StoreUnreachableError("cannot read"), None)
    assert "is tried again, for this can pass by itself: cannot read" in caplog.text


def test_a_failure_that_does_not_pass_ends_in_its_sentence(store: Store, module: Any) -> None:
    state = run(store, module, *[StoreUnreachableError("cannot read") for _ in range(9)])
    assert (state.is_failed(), state.message, len(module.CALLS)) == (True, "cannot read", 1 + failures.MOST_RETRIES)


def test_an_error_of_the_users_is_not_tried_again(store: Store, module: Any) -> None:
    state = run(store, module, DataError("no column 'prompt'"), None)
    assert (state.message, len(module.CALLS)) == ("no column 'prompt'", 1)


def test_whoever_asks_for_the_result_has_the_error_itself(store: Store, module: Any) -> None:
    state = run(store, module, DataError("no column"))
    with pytest.raises(DataError, match="^no column$"):
        state.result()


def test_after_a_failure_the_same_stage_is_built(store: Store, module: Any) -> None:
    run(store, module, DataError("no column"))
    assert run(store, module, None).name == "Completed"


def test_a_failure_is_not_kept_as_a_result(store: Store, module: Any, caplog: pytest.LogCaptureFixture) -> None:
    run(store, module, DataError("no column"))
    assert [line.message for line in caplog.records if "transaction" in line.message] == []


def test_nothing_but_sentences_is_logged_of_a_failure_that_does_not_pass(
    store: Store, module: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run(store, module, *[StoreUnreachableError("cannot read") for _ in range(9)])
    assert "Traceback" not in caplog.text and "NoneType" not in caplog.text


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Encountered exception during execution", ["no column"]),
        ("Engine execution exited with unexpected exception", []),  # the state in which it ended is said by then
    ],
)
def test_prefects_log_tells_our_errors_as_sentences(
    line: str, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    log_at_info()
    try:
        raise DataError("no column")
    except DataError:
        logging.getLogger("prefect.engine").exception(line)
    assert (caplog.messages, "Traceback" in caplog.text) == (told, False)


def test_a_defect_is_raised_as_it_is(store: Store, module: Any) -> None:
    with pytest.raises(KeyError, match="prompt"):
        run(store, module, KeyError("prompt")).result()


def test_full_memory_is_met_once_with_half_the_micro_batch(store: Store, module: Any) -> None:
    asked = SETTINGS.grpo.micro_batch_tokens
    run(store, module, torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB"), None)
    assert [asked, asked // 2] == module.CALLS


def test_the_artifact_of_half_a_micro_batch_is_the_one_that_was_asked_for(store: Store, module: Any) -> None:
    halved = run(store, module, torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB"), None)
    assert halved.result() == run(store, module).result()


def test_full_memory_stands_in_the_state(store: Store, module: Any) -> None:
    state = run(store, module, torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB"), None)
    assert "with half of micro_batch_tokens and rows_at_once: CUDA out of memory" in str(state.message)


def test_memory_that_is_full_twice_is_an_error() -> None:
    def build(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        survive_full_memory(build, SETTINGS, "grpo")


def test_half_of_one_row_is_one_row() -> None:
    settings = load_settings("smoke", {"evaluation.rows_at_once": 1})
    assert with_half_at_once(settings).evaluation.rows_at_once == 1


def test_a_stage_whose_time_is_up_stops_at_its_next_step(store: Store, module: Any) -> None:
    state = run(store, module, None, limits__stage_minutes={"failing": 1e-9})
    assert (state.name, str(state.message).partition(":")[0]) == (
        "TimedOut",
        "stage failing was stopped at 1 of 3 steps",
    )


def test_a_stage_whose_time_is_up_is_not_tried_again(store: Store, module: Any) -> None:
    run(store, module, None, None, limits__stage_minutes={"failing": 1e-9})
    assert len(module.CALLS) == 1


def test_a_stage_that_was_asked_to_stop_is_cancelled() -> None:
    state = state_of(InterruptedRunError("stopped by SIGTERM"))
    assert state is not None and (state.is_cancelled(), state.message) == (True, "stopped by SIGTERM")


def failing_flow() -> Any:
    @flow
    @ending_in_a_sentence
    def failing(profile: str = "demo") -> int:
        """Fail."""
        raise DataError(f"no column in {profile}")

    return failing


def test_a_flow_that_fails_says_its_sentence_on_its_page(prefect: None) -> None:
    state = failing_flow()(return_state=True)
    with get_client(sync_client=True) as client:
        seen = client.read_flow_run(state.state_details.flow_run_id).state
    assert seen is not None and (seen.is_failed(), seen.message) == (True, "no column in demo")


def test_a_flow_that_fails_raises_the_error_for_its_caller(prefect: None) -> None:
    with pytest.raises(DataError, match="no column"):
        failing_flow()()


def test_a_flow_keeps_its_parameters() -> None:
    assert list(failing_flow().parameters.properties) == ["profile"]
