"""How a stage or a run that fails ends: in a sentence, and tried again only where that can help."""

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

import httpx
import torch
from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Failed
from prefect.tasks import exponential_backoff
from prefect.transactions import get_transaction

from dr_irl.config import Settings
from dr_irl.errors import DrIrlError, GateError, InterruptedRunError, StageTimeoutError, StoreUnreachableError
from tasks.orchestration.interruption import interruption_by
from tasks.orchestration.logs import log_at_info

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

GATE_FAILED = "GateFailed"
"""Name of the state of a run whose result may not replace the champion: nothing broke. CI tells it by this name."""
MOST_RETRIES = 3
"""Together with the waiting between them these sit out some minutes; each S3 request sits out half a minute itself."""
_PASSING = (StoreUnreachableError, ConnectionError, TimeoutError, httpx.TransportError)
_why: dict[UUID, str] = {}
"""Task run -> why it is tried again, while it is."""


def passes_by_itself(error: object) -> bool:
    """Tell whether trying again can help: a network or a server failed. Nothing else of a user's or ours does."""
    return isinstance(error, _PASSING)


def retried(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Tell Prefect whether to try a task again, and log why."""
    error = state.data
    if not passes_by_itself(error) or run.run_count > MOST_RETRIES:
        return False
    _why[run.id] = str(error)
    logger.warning("%s failed and is tried again, for this can pass by itself: %s", run.name or task.name, error)
    return True


RETRIES: dict[str, Any] = {
    # One more than there are: when Prefect has used up its retries it logs a traceback, whatever the error.
    "retries": MOST_RETRIES + 1,
    "retry_delay_seconds": exponential_backoff(15)(MOST_RETRIES),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": retried,
}
"""The options of a task that is tried again where it can help: after 15, 30 and 60 seconds, give or take a half."""


def after_retries(run_id: UUID | None) -> str:
    """Say why a task that ends now had to be tried again; empty if it had not."""
    reason = _why.pop(run_id, None) if run_id else None
    return f", after a failure that passed: {reason}" if reason else ""


def with_half_at_once(settings: Settings) -> Settings:
    """Halve what is held in memory at once; nothing else about the settings changes."""
    return settings.model_copy(
        update={
            section: (part := getattr(settings, section)).model_copy(update={name: max(1, getattr(part, name) // 2)})
            for section, name in (
                ("grpo", "micro_batch_tokens"),
                ("completions", "rows_at_once"),
                ("evaluation", "rows_at_once"),
            )
        }
    )


def survive_full_memory(build: Callable[[Settings], None], settings: Settings, stage: str) -> str:
    """Build; where the device's memory did not suffice, once more with half at once.

    Returns:
        What to say of it; empty if memory sufficed.
    """
    try:
        build(settings)
        return ""
    except torch.OutOfMemoryError as error:
        said = str(error).partition(". ")[0]
    # Outside of the handler: the error holds on to what filled the memory.
    logger.warning("%s: %s; going on with half of grpo.micro_batch_tokens and rows_at_once", stage, said)
    torch.cuda.empty_cache()
    build(with_half_at_once(settings))
    return f", with half of micro_batch_tokens and rows_at_once: {said}"


def state_of(error: BaseException) -> State[Any] | None:
    """Return the state in which a failure that we can name ends a run: its message is the error's sentence.

    None is for defects, which are to show a traceback.
    """
    if isinstance(error, InterruptedRunError):
        return Cancelled(data=error, message=str(error))
    if isinstance(error, StageTimeoutError):
        return Failed(data=error, message=str(error), name="TimedOut")
    if isinstance(error, GateError):
        return Failed(data=error, message=str(error), name=GATE_FAILED)
    if isinstance(error, DrIrlError):
        return Failed(data=error, message=str(error))
    if passes_by_itself(error):
        return Failed(data=error, message=f"{type(error).__name__}: {error}")
    return None


def ending_in_a_sentence(run: Callable[P, T]) -> Callable[P, T | State[Any]]:
    """Let a task's or flow's function end in the state of its failure, or as Cancelled by a signal; put under `@flow`.

    Whoever calls the flow, or asks a future or `result_of` for the task's result, has the error itself raised.
    """

    @functools.wraps(run)
    def ending(*args: P.args, **kwargs: P.kwargs) -> T | State[Any]:
        log_at_info()
        try:
            return run(*args, **kwargs)
        except (Exception, TerminationSignal, KeyboardInterrupt) as error:
            state = state_of(interruption_by(error) or error)
            if state is None:
                raise
        if (transaction := get_transaction()) is not None:
            transaction.write_on_commit = False  # a failure is no result: Prefect would keep it for the next run
        return state

    return ending


def result_of(task: Task[P, T | State[Any]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a task here and return its result, or raise its error: Prefect's plain call would hand out the state."""
    return cast(T, task(*args, **kwargs, return_state=True).result(raise_on_failure=True))
