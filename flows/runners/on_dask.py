"""Stages on Dask: Prefect's own runner, told what a stage needs and how it is stopped."""

import signal
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, Self

import dask.config
import distributed
import torch
from dask.base import annotate
from prefect import Task
from prefect.context import FlowRunContext
from prefect_dask.client import PrefectDaskClient
from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

from flows.runners.gpus import check_gpus_here, gpus_needed
from flows.runners.page_log import PageLog
from tasks.orchestration.interruption import request_stop


class DaskStages(DaskTaskRunner):
    """Runs stages on Dask; a GPU is a unit of the workers' resource `GPU`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """See `DaskTaskRunner`."""
        super().__init__(*arguments, **options)
        self._submitted: list[distributed.Future] = []

    @classmethod
    def from_environment(cls, stages_at_once: int) -> Self:
        """Choose the cluster at DASK_SCHEDULER_ADDRESS; without one, processes of this machine for the run's time.

        Every machine of a cluster must have the same code and models, and reach the store.
        """
        if address := dask.config.get("scheduler-address", None):
            return cls(address=address)
        return cls(
            cluster_kwargs={
                "n_workers": stages_at_once,
                "threads_per_worker": 1,
                "memory_limit": 0,  # none: a worker that Dask restarts for its memory loses the stage that it builds
                "resources": {"GPU": torch.cuda.device_count()},
                "dashboard_address": None,
            }
        )

    @property
    def client(self) -> PrefectDaskClient:
        """The connection; it lets workers log what belongs on the page of the run, those that join later too."""
        connected = self._client is not None
        client = super().client
        if not connected:
            client.register_plugin(PageLog())
        return client

    def submit(
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[Any] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> PrefectDaskFuture[Any]:
        """Submit a stage with the GPUs that it needs."""
        gpus = gpus_needed(task.name, parameters["settings"])
        if self.address is None:
            check_gpus_here(gpus)
        with annotate(resources={"GPU": gpus}) if gpus else nullcontext():
            future = super().submit(task, parameters, wait_for, dependencies)
        self._submitted.append(future.wrapped_future)
        return future

    def stop(self) -> None:
        """Stop the stages of this run at their next step and wait for that; other runs may have stages beside them."""
        context = FlowRunContext.get()
        if context and context.flow_run:
            self.client.run(request_stop, int(signal.SIGTERM), str(context.flow_run.id))
        self.client.gather(self._submitted, errors="skip")
