"""What every flow is declared with: a name that says what runs, threads for stages, and an end when a signal comes."""

from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger
from prefect.states import Cancelled
from prefect.task_runners import ThreadPoolTaskRunner

from flows.run_names import run_name
from flows.runners.running import STAGES_AT_ONCE
from tasks.orchestration.interruption import interruption_by


def cancel_if_interrupted(flow: Flow[..., Any], run: FlowRun, state: State[Any]) -> None:
    """Make a crash that was a signal Cancelled: it came when Prefect's own code was at work, around the flow's.

    What comes while the flow's function runs ends it as Cancelled at once: see `ending_in_a_sentence`.
    """
    if (interruption := interruption_by(state.data)) is None:
        return
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Cancelled(message=str(interruption)), force=True)
    flow_run_logger(run, flow).info("the run was cancelled: %s", interruption)


FLOW: dict[str, Any] = {
    "flow_run_name": run_name,
    "task_runner": ThreadPoolTaskRunner(max_workers=STAGES_AT_ONCE),
    "on_crashed": [cancel_if_interrupted],
}
"""The options of `@flow`."""
