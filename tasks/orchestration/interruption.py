"""How a run stops when it is asked to: at the next step, with a checkpoint, and not in the middle of a write."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from prefect._internal.control_listener import get_intent
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.utilities.engine import is_prefect_sigterm_handler_installed

from dr_irl.errors import InterruptedRunError, StageTimeoutError
from dr_irl.progress import Meter, Progress

_asked_by: list[int] = []
"""The signal that asked this process to stop, once one has."""


_depth = 0
"""How many blocks of `stopping_on_signals` are open, one in the other."""

_stopped_runs: dict[str, int] = {}
"""Flow runs whose stages in this process are to stop, where it works for several, and the signal that asked for it."""


@dataclass(frozen=True)
class _Limit:
    stage: str
    minutes: float
    ends: float
    """By the clock of `time.monotonic`."""


_limit: ContextVar[_Limit | None] = ContextVar("limit", default=None)
"""How long the stage that runs here may take."""


@contextmanager
def time_limit(stage: str, minutes: float | None) -> Iterator[None]:
    """Let the stage that runs in the block stop at the first step after so many minutes; None: never."""
    limit = _Limit(stage, minutes, time.monotonic() + 60 * minutes) if minutes is not None else None
    before = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(before)


def _overdue() -> _Limit | None:
    limit = _limit.get()
    return limit if limit is not None and time.monotonic() > limit.ends else None


def request_stop(number: int, run_id: str | None = None) -> None:
    """Let the stages in this process, or those of one flow run, stop at their next step as if the signal had come."""
    if run_id is None:
        _asked_by.append(number)
    else:
        _stopped_runs[run_id] = number


def stop_requested() -> bool:
    """Tell whether the stage that runs here is to stop: its process or flow run was asked to, or its time is up."""
    return bool(_signals()) or _overdue() is not None


def _signals() -> list[int]:
    context = FlowRunContext.get()
    run_id = str(context.flow_run.id) if context and context.flow_run else ""
    return [*_asked_by, *(number for stopped, number in _stopped_runs.items() if stopped == run_id)]


def stop_if_requested() -> None:
    """Stop here if this process or the flow run that this belongs to was asked to.

    Raises:
        InterruptedRunError: it was.
    """
    for number in _signals():
        raise InterruptedRunError.by_signal(number)


def stop_if_overdue(so_far: str) -> None:
    """Stop here if the stage's time is up.

    Raises:
        StageTimeoutError: it is.
    """
    if limit := _overdue():
        raise StageTimeoutError(
            f"stage {limit.stage} was stopped at {so_far}: it took more than limits.stage_minutes allows it, "
            f"{limit.minutes:g} minutes; allow it more, and the same command goes on from the last checkpoint"
        )


def interruption_by(ended: object) -> InterruptedRunError | None:
    """Return the error of a run that SIGTERM or Ctrl-C ended.

    None if something else did; or Prefect, which said so beforehand and sets the state of the run itself: that is how a
    worker cancels a run.
    """
    number = _signal_of(ended)
    return None if number is None or get_intent() is not None else InterruptedRunError.by_signal(number)


def _signal_of(error: object) -> int | None:
    """Return the signal whose handler raised this, if one did."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    return error.signal if isinstance(error, TerminationSignal) else None


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGINT stop the stages of a run at their next step; a second one ends the process at once.

    Around a flow's function, and around its stages: they are to know that they must stop before anybody waits for them.
    Whoever handled the signal before, Prefect in a flow, is called as well; a signal that was ignored still is.
    """
    global _depth
    if current_thread() is not main_thread():  # signals are the main thread's: a flow in a thread is its host's to stop
        yield
        return
    with ExitStack() as stack:
        if _depth == 0:
            _asked_by.clear()  # a process that goes on may run again
            stack.enter_context(_asking())
            stack.enter_context(_hearing_what_is_lost())
        _depth += 1
        try:
            yield
        except TerminationSignal as ended:
            _asked_by.append(ended.signal)
            for each in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(each) != signal.SIG_IGN:
                    signal.signal(each, signal.SIG_DFL)
            raise
        finally:
            _depth -= 1


@contextmanager
def _asking() -> Iterator[None]:
    """Handle the signals: the first stops the stages, the second ends the process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    # A shell lets its background commands ignore Ctrl-C: it is not meant for them.
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    if is_prefect_sigterm_handler_installed():
        # It must stay, or Prefect takes a run that is cancelled for one that crashed. It raises TerminationSignal.
        del before[signal.SIGTERM]

    def ask(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        _asked_by.append(number)
        earlier: Any = before[signal.Signals(number)]
        if callable(earlier):
            earlier(number, frame)

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        if not _asked_by:  # else stages are on their way to their next step: a second signal need not wait for it
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _hearing_what_is_lost() -> Iterator[None]:
    """Heed the exception of a signal's handler also where it is lost, because a destructor was at work."""
    before = sys.unraisablehook

    def hear(lost: Any) -> None:
        number = _signal_of(lost.exc_value)
        if number is None:
            before(lost)
        else:
            _asked_by.append(number)

    sys.unraisablehook = hear
    try:
        yield
    finally:
        sys.unraisablehook = before


class StoppableProgress:
    """Progress whose meters end the stage when the run was asked to stop, or the stage's time is up."""

    def __init__(self, progress: Progress) -> None:
        """Report to `progress`."""
        self._progress = progress

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Meter]:
        """Open the meter of stage `name`, which will count `total` units."""
        with self._progress.stage(name, total, unit) as meter:
            yield _StoppableMeter(meter, total, unit)


class _StoppableMeter:
    def __init__(self, meter: Meter, total: int, unit: str) -> None:
        self._meter, self._total, self._unit = meter, total, unit
        self._done = 0

    def resume(self, units: int) -> None:
        self._done += units
        self._meter.resume(units)

    def advance(self, units: int = 1, **readings: float) -> None:
        self._done += units
        self._meter.advance(units, **readings)
        stop_if_requested()
        if self._done < self._total:  # what is left after the last step is short, and would be lost
            stop_if_overdue(f"{self._done} of {self._total} {self._unit}")
