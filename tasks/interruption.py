"""How a run stops when it is asked to: at the next step, with a checkpoint, and not in the middle of a write."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from dr_irl.errors import InterruptedRunError
from dr_irl.progress import Meter, Progress

_GOES_ON = "finished stages and the last checkpoint are in the store, the same command goes on from there"

_asked_by: list[int] = []
"""The signal that asked this process to stop, once one has."""


def stop_requested() -> bool:
    """Tell whether this process was asked to stop."""
    return bool(_asked_by)


def stop_if_requested() -> None:
    """Stop here if this process was asked to.

    Raises:
        InterruptedRunError: it was.
    """
    for number in _asked_by:
        error = InterruptedRunError(how_it_ended(number))
        error.exit_status = 128 + number
        raise error


def how_it_ended(number: int) -> str:
    """Say what a signal did to a run, and what to do next."""
    return f"{'interrupted' if number == signal.SIGINT else 'stopped by SIGTERM'}; {_GOES_ON}"


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGINT stop the stages of a run at their next step; a second one ends the process at once.

    Whoever handled the signal before, Prefect in a flow, is called as well; a signal that was ignored still is.
    """
    if current_thread() is not main_thread():  # signals are the main thread's: a flow in a thread is its host's to stop
        yield
        return
    _asked_by.clear()  # a process that goes on may run again
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    # A shell lets its background commands ignore Ctrl-C: it is not meant for them.
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}

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
