"""Progress on the terminal, or on the page of the run: lines in its log, and a bar."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.exceptions import PrefectException

from dr_irl.progress import Meter, Progress

logger = logging.getLogger("dr_irl.progress")

SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_UPDATES = 5.0
_SECONDS_TO_END = 5.0
"""How long a stage that is done waits for its bar to go."""
_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


def report_to(progress: Progress) -> None:
    """Send the progress of the tasks started from here to `progress`."""
    _progress.set(progress)


def current_progress() -> Progress:
    """Return where progress goes: what `report_to` chose, or the page of the run."""
    return _progress.get() or PageProgress()


@dataclass
class Standing:
    """How far a stage is."""

    name: str
    total: int
    unit: str
    done: int = 0
    readings: dict[str, float] = field(default_factory=dict)

    @property
    def percent(self) -> float:
        """The share that is done; totals are upper limits, so that a stage may end well below."""
        return min(100.0, 100 * self.done / max(1, self.total))

    def line(self) -> str:
        """Say it in a line of text."""
        shown = " ".join(f"{name} {value:.3g}" for name, value in self.readings.items())
        return f"{self.name} {self.done}/{self.total} {self.unit} {shown}".rstrip()


class PageProgress:
    """Logs a line now and then and, in a task of Prefect's, moves a bar on the page of the run."""

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Meter]:
        """Open the meter of stage `name`, which will count `total` units."""
        standing = Standing(name, total, unit)
        with _bar(standing):
            yield _PageMeter(standing)


class _PageMeter:
    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        self._logged = time.monotonic()

    def advance(self, units: int = 1, **readings: float) -> None:
        self._standing.done += units
        self._standing.readings = self._standing.readings | readings
        now = time.monotonic()
        if now - self._logged >= SECONDS_BETWEEN_LINES or self._standing.done >= self._standing.total:
            self._logged = now
            logger.info("%s", self._standing.line())

    def resume(self, units: int) -> None:
        self._standing.done += units


@contextmanager
def _bar(standing: Standing) -> Iterator[None]:
    """Keep a bar on the page up to date while the block runs, from a thread: no step waits for the server."""
    context = TaskRunContext.get()
    if context is None:
        yield
        return
    over = Event()
    # In this context, for Prefect's settings are part of it.
    bar = Thread(target=copy_context().run, args=(_follow, standing, over, context.task_run), daemon=True)
    bar.start()
    try:
        yield
    finally:
        over.set()
        bar.join(_SECONDS_TO_END)


def _follow(standing: Standing, over: Event, run: TaskRun) -> None:
    """Move the bar until the stage is over, then take it away: a page shows bars of what runs now."""
    # Settings of its own, so that it is a client of its own: the task's ends with the task.
    with get_client(httpx_settings={"timeout": SECONDS_BETWEEN_UPDATES}, sync_client=True) as client:
        bar, pause = _Bar(client, standing, run), 0.0
        while not over.wait(pause):
            bar.attempt(bar.show)
            pause = SECONDS_BETWEEN_UPDATES
        bar.attempt(bar.remove)


@dataclass
class _Bar:
    client: SyncPrefectClient
    standing: Standing
    run: TaskRun
    shown: UUID | None = None
    told: bool = False

    def attempt(self, change: Callable[[], None]) -> None:
        """Change the bar; that the server does not do it is logged once."""
        try:
            change()
        except (httpx.HTTPError, PrefectException) as error:
            # A bar that stands still is no reason to lose hours of training; the log's lines go on.
            if not self.told:
                logger.warning("the progress bar of %s does not move for now: %s", self.standing.name, error)
            self.told = True

    def show(self) -> None:
        """Put the bar on the page, or move it."""
        seen: dict[str, Any] = {"data": self.standing.percent, "description": self.standing.line()}
        if self.shown is not None:
            self.client.update_artifact(self.shown, ArtifactUpdate(**seen))
            return
        key = re.sub(r"[^a-z0-9]+", "-", f"progress-{self.standing.name}".lower())
        of_run = {"task_run_id": self.run.id, "flow_run_id": self.run.flow_run_id}
        self.shown = self.client.create_artifact(ArtifactCreate(type="progress", key=key, **of_run, **seen)).id

    def remove(self) -> None:
        """Take the bar off the page."""
        if self.shown is not None:
            self.client.delete_artifact(self.shown)
