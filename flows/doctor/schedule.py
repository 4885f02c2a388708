"""What `dr-irl doctor` looks at of the runs to come: whether the server schedules them, and a worker takes them."""

import time
from datetime import datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from flows.doctor.machine import Check

_SECONDS_TO_SCHEDULE = 75.0
"""Within which a server that is well has scheduled what was resumed a moment ago: it looks once a minute."""
_LATE = timedelta(minutes=5)


def check_schedule(client: SyncPrefectClient, patience_seconds: float = _SECONDS_TO_SCHEDULE) -> Check:
    """Look whether the server has scheduled a run of every deployment of ours whose schedule is active."""
    name = "schedule"
    active = [
        found for found in _ours(client) if not found.paused and any(schedule.active for schedule in found.schedules)
    ]
    if not active:
        return Check(name, "unknown", "no deployment has an active schedule", "fine, if you start all runs yourself")
    deadline = time.monotonic() + patience_seconds
    planned = {found.name: _scheduled(client, found) for found in active}
    while not all(planned.values()):
        if time.monotonic() > deadline:
            idle = ", ".join(name for name, runs in planned.items() if not runs)
            seen = f"{idle}: active, and the server has scheduled no run of it: its scheduler does not work"
            remedy = "look for ERROR in the server's log, and install the versions of constraints.txt where it runs"
            return Check(name, "failed", seen, remedy)
        time.sleep(1)
        planned = {found.name: _scheduled(client, found) for found in active}
    return Check(name, "passed", "; ".join(f"{name} next at {_when(runs[0])}" for name, runs in planned.items()))


def _ours(client: SyncPrefectClient) -> list[DeploymentResponse]:
    return client.read_deployments(deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=["dr-irl"])))


def _scheduled(client: SyncPrefectClient, *deployments: DeploymentResponse) -> list[FlowRun]:
    """Return the next runs of deployments that wait for their time, or for a worker, the earliest first."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[found.id for found in deployments]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        ),
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
        limit=10,
    )


def _when(run: FlowRun) -> str:
    return f"{run.next_scheduled_start_time:%Y-%m-%d %H:%M} UTC"


def check_late_runs(client: SyncPrefectClient, now: datetime) -> Check:
    """Look for runs whose time has come and that no worker takes; those that wait for another run are not late."""
    late = [
        run
        for run in _scheduled(client, *_ours(client))
        if run.next_scheduled_start_time
        and now - run.next_scheduled_start_time > _LATE
        and run.state_name in ("Scheduled", "Late")
    ]
    seen = f"{late[0].name} waits since {_when(late[0])}" if late else "none"
    remedy = "see that a worker of their pool is online and below its limit: prefect work-pool inspect dr-irl"
    return Check.that("late runs", not late, seen, remedy)
