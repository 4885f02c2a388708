"""Where the stages of a run are built: in threads or processes of this machine, or on a Dask or Ray cluster."""

import importlib.util
import logging
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Literal

from prefect.context import FlowRunContext, get_run_context
from prefect.logging.handlers import APILogHandler
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from dr_irl.errors import DrIrlError, UserError
from tasks.orchestration.interruption import stop_requested, stopping_on_signals
from tasks.orchestration.worker_process import prepare_process

Runner = Literal["threads", "processes", "dask", "ray"]

STAGES_AT_ONCE = 2
"""On one machine: the DAG lays out its reward models in pairs, on a thread each."""


@contextmanager
def running_on(runner: Runner) -> Iterator[None]:
    """Submit the tasks of this flow run to another runner than its decorator names; they stay on the run's own page.

    A signal makes them stop at their next step, before the runner ends.

    Raises:
        UserError: the runner's package is not installed.
        DrIrlError: a process died with the stage that it built.
    """
    started, stop = _RUNNERS[runner]()
    with started, get_run_context().model_copy(update={"task_runner": started}):
        try:
            with stopping_on_signals():
                yield
        except BrokenProcessPool as error:
            raise DrIrlError(
                "a process ended before the stage that it built, most likely killed because memory ran out; what was "
                "finished and the last checkpoint are in the store: run again, with runner 'threads' or on more memory"
            ) from error
        finally:
            if stop_requested():
                stop()


def stages_share_a_machine() -> bool:
    """Tell whether this flow run's stages are all built on this machine, where some leave no core to others."""
    context = FlowRunContext.get()
    return context is None or getattr(context.task_runner, "address", None) is None


Started = tuple[TaskRunner[Any], Callable[[], None]]
"""A runner, and what makes the stages it runs stop at their next step."""


def _threads() -> Started:
    return ThreadPoolTaskRunner(max_workers=STAGES_AT_ONCE), lambda: None  # they see for themselves


def _processes() -> Started:
    on_terminal = any(not isinstance(each, APILogHandler) for each in logging.getLogger("dr_irl").handlers)
    runner = ProcessPoolTaskRunner(STAGES_AT_ONCE, initializer=prepare_process, initargs=(on_terminal,))
    return runner, _terminate_children


def _terminate_children() -> None:
    for child in multiprocessing.active_children():
        child.terminate()


def _dask() -> Started:
    _check_installed("dask")
    from flows.runners.on_dask import DaskStages

    runner = DaskStages.from_environment(STAGES_AT_ONCE)
    return runner, runner.stop


def _ray() -> Started:
    _check_installed("ray")
    from flows.runners.on_ray import RayStages

    runner = RayStages.from_environment(STAGES_AT_ONCE)
    return runner, runner.stop


def _check_installed(extra: str) -> None:
    if importlib.util.find_spec(f"prefect_{extra}") is None:
        raise UserError(f"runner {extra!r} needs packages that are not installed: pip install 'dr-irl[{extra}]'")


_RUNNERS: dict[Runner, Callable[[], Started]] = {
    "threads": _threads,
    "processes": _processes,
    "dask": _dask,
    "ray": _ray,
}
