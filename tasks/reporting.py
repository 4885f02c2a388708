"""Progress on the terminal, or in the log of the run's page."""

import logging
import time
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

from dr_irl.progress import Meter, Progress

logger = logging.getLogger("dr_irl.progress")

_SECONDS_BETWEEN_LINES = 30.0
_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


def report_to(progress: Progress) -> None:
    """Send the progress of the tasks started from here to `progress`."""
    _progress.set(progress)


def current_progress() -> Progress:
    """Return where progress goes: what `report_to` chose, or the log."""
    return _progress.get() or LogProgress()


class LogProgress:
    """Logs a line now and then; Prefect shows it on the page of the run."""

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Meter]:
        """Open the meter of stage `name`, which will count `total` units."""
        return nullcontext(_LogMeter(name, total, unit))


class _LogMeter:
    def __init__(self, name: str, total: int, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._done = 0
        self._logged = time.monotonic()

    def advance(self, units: int = 1, **readings: float) -> None:
        self._done += units
        now = time.monotonic()
        if now - self._logged >= _SECONDS_BETWEEN_LINES or self._done >= self._total:
            self._logged = now
            shown = " ".join(f"{name} {value:.3g}" for name, value in readings.items())
            logger.info("%s %d/%d %s %s", self._name, self._done, self._total, self._unit, shown)
