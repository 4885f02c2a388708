"""How a run stops when it is asked to: at the next step, with a checkpoint, and not in the middle of a write."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from types import FrameType
from typing import Any

from dr_irl.errors import InterruptedRunError
from dr_irl.progress import Meter, Progress

_asked = Event()


def stop_requested() -> bool:
    """Tell whether this process was asked to stop."""
    return _asked.is_set()


def stop_if_requested() -> None:
    """Stop here if this process was asked to.

    Raises:
        InterruptedRunError: it was.
    """
    if _asked.is_set():
        raise InterruptedRunError("stopped as asked; the same command goes on from here")


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGINT stop the stages of a run at their next step; a second one ends the process at once.

    Whoever handled the signal before, Prefect in a flow, is called as well.
    """
    if (
        current_thread() is not main_thread()
    ):  # signals are the main thread's; a flow in a thread is stopped by its host
        yield
        return
    _asked.clear()  # a process that goes on may run again
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        _asked.set()
        earlier: Any = before[signal.Signals(number)]
        if callable(earlier):
            earlier(number, frame)

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        if not _asked.is_set():  # else stages are on their way to their next step: a second signal need not wait for it
            for number, handler in before.items():
                signal.signal(number, handler)


class StoppableProgress:
    """Progress whose meters end the stage when the run was asked to stop."""

    def __init__(self, progress: Progress) -> None:
        """Report to `progress`."""
        self._progress = progress

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Meter]:
        """Open the meter of stage `name`, which will count `total` units."""
        with self._progress.stage(name, total, unit) as meter:
            yield _StoppableMeter(meter)


class _StoppableMeter:
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def advance(self, units: int = 1, **readings: float) -> None:
        self._meter.advance(units, **readings)
        stop_if_requested()
