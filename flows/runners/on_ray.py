"""Stages on Ray: Prefect's own runner, told what a stage needs and how it is stopped."""

import concurrent.futures
import os
import signal
import threading
from collections.abc import Iterable
from typing import Any, Self

import ray
from prefect import Task
from prefect.futures import PrefectFuture
from prefect_ray.context import remote_options
from prefect_ray.task_runners import PrefectRayFuture, RayTaskRunner

from flows.runners.gpus import check_gpus_here, gpus_needed
from tasks.orchestration.worker_process import prepare_ray_worker


class _Interruptible(PrefectRayFuture[Any]):
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """Wait in Python, where a signal can end it: what its handler raises while Ray itself waits is lost."""
        concurrent.futures.wait([self.wrapped_future.future()], timeout)
        return super().result(timeout, raise_on_failure)


class RayStages(RayTaskRunner[Any]):
    """Runs stages on Ray."""

    def __init__(self, address: str | None = None, init_kwargs: dict[str, Any] | None = None) -> None:
        """See `RayTaskRunner`."""
        super().__init__(address, init_kwargs)
        self._submitted: list[Any] = []
        self._earlier: list[Any] = []

    @classmethod
    def from_environment(cls, stages_at_once: int) -> Self:
        """Choose the cluster at RAY_ADDRESS; without one, processes of this machine for the time of the run.

        Every machine of a cluster must have the same code and models, and reach the store.
        """
        prepared = {"runtime_env": {"worker_process_setup_hook": prepare_ray_worker}}
        if address := os.environ.get("RAY_ADDRESS"):
            return cls(address, prepared)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        return cls(None, prepared | {"num_cpus": stages_at_once, "include_dashboard": False})

    def __enter__(self) -> Self:
        """Start or join the cluster, and leave SIGTERM to who answered it: Ray would end the run with another state."""
        answers = signal.getsignal(signal.SIGTERM)
        started = super().__enter__()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, answers)
        return started

    def submit(
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> PrefectRayFuture[Any]:
        """Submit a stage with the GPUs that it needs."""
        gpus = gpus_needed(task.name, parameters["settings"])
        if self.address is None:
            check_gpus_here(gpus)
        wait_for = list(wait_for or ())
        self._earlier = [future.wrapped_future for future in wait_for if isinstance(future, PrefectRayFuture)]
        with remote_options(num_gpus=gpus):
            future = super().submit(task, parameters, wait_for, dependencies)
        self._submitted.append(future.wrapped_future)
        return _Interruptible(future.task_run_id, future.wrapped_future)

    def _exchange_prefect_for_ray_futures(self, kwargs_prefect_futures: dict[str, Any]) -> tuple[Any, list[Any]]:
        """Let Ray itself wait for what a stage comes after: waiting in a process, the stage would hold its GPU."""
        parameters, refs = super()._exchange_prefect_for_ray_futures(kwargs_prefect_futures)
        return parameters, [*refs, *self._earlier]

    def stop(self) -> None:
        """Stop the stages at their next step and wait for that; those that have not begun never do."""
        for ref in self._submitted:
            ray.cancel(ref)
        ray.wait(self._submitted, num_returns=len(self._submitted))
