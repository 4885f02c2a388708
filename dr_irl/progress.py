"""How loops say where they are, without knowing who listens."""

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from types import TracebackType
from typing import Protocol, TextIO, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress


@runtime_checkable
class Meter(Protocol):
    """Counts the units of one stage."""

    def advance(self, units: int = 1, **readings: float) -> None:
        """Report that `units` more are done, with named readings worth showing."""
        ...

    def resume(self, units: int) -> None:
        """Report that `units` more were done by an earlier run: they say nothing of this one's pace."""
        ...


@runtime_checkable
class Progress(Protocol):
    """Opens one meter for each stage that lasts."""

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Meter]:
        """Open the meter of stage `name`, which will count `total` units."""
        ...


class SilentProgress:
    """Reports to nobody."""

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Meter]:
        """Open a meter that drops what it is told."""
        del name, total, unit
        return nullcontext(_SilentMeter())


class ConsoleProgress:
    """One live line per stage on a terminal, plain lines where there is none."""

    def __init__(self, stream: TextIO | None = None, seconds_between_lines: float = 10.0) -> None:
        """Write to `stream` (standard error by default)."""
        self._console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._seconds_between_lines = seconds_between_lines
        self._live: RichProgress | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = RichProgress(
                TextColumn("{task.description:<34}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}", markup=False),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[readings]}", markup=False),
                console=self._console,
            )

    def __enter__(self) -> "ConsoleProgress":
        """Start the live display, if there is one."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the live display and leave its last state on the screen."""
        if self._live is not None:
            self._live.stop()

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Meter]:
        """Open the meter of stage `name`, which will count `total` units."""
        if self._live is not None:
            return _LiveMeter(self._live, name, total, unit)
        return _PlainMeter(self._console, name, total, unit, self._seconds_between_lines)


class _SilentMeter:
    def advance(self, units: int = 1, **readings: float) -> None:
        del units, readings

    def resume(self, units: int) -> None:
        del units


class _LiveMeter:
    def __init__(self, live: RichProgress, name: str, total: int, unit: str) -> None:
        self._live = live
        self._task = live.add_task(name, total=total, unit=unit, readings="")

    def __enter__(self) -> "_LiveMeter":
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop_task(self._task)

    def advance(self, units: int = 1, **readings: float) -> None:
        self._live.update(self._task, advance=units)
        if readings:
            self._live.update(self._task, readings=_format_readings(readings))

    def resume(self, units: int) -> None:
        self._live.update(self._task, advance=units)  # the first advance is no part of the pace that rich takes


class _PlainMeter:
    """Prints `name done/total unit | readings | seconds left` at intervals, and once at the end."""

    def __init__(self, console: Console, name: str, total: int, unit: str, interval: float) -> None:
        self._console, self._name, self._total, self._unit = console, name, total, unit
        self._interval = interval
        self._done = self._resumed = 0
        self._readings: dict[str, float] = {}
        self._start = self._printed = time.monotonic()
        self._lock = Lock()

    def __enter__(self) -> "_PlainMeter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        seconds = f"{time.monotonic() - self._start:.0f} s"
        self._print(f"{seconds} in all" if kind is None else f"ended after {seconds}")

    def advance(self, units: int = 1, **readings: float) -> None:
        with self._lock:
            self._done += units
            self._readings.update(readings)
            now = time.monotonic()
            if now - self._printed < self._interval or self._done >= self._total:
                return
            self._printed = now
            if self._done == self._resumed:
                self._print("time left unknown")
                return
            left = (now - self._start) / (self._done - self._resumed) * (self._total - self._done)
            self._print(f"{left:.0f} s left")

    def resume(self, units: int) -> None:
        with self._lock:
            self._done += units
            self._resumed += units

    def _print(self, timing: str) -> None:
        parts = [f"{self._name} {self._done}/{self._total} {self._unit}"]
        if self._readings:
            parts.append(_format_readings(self._readings))
        self._console.print(" | ".join([*parts, timing]), markup=False, emoji=False)


def _format_readings(readings: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3g}" for name, value in readings.items())
