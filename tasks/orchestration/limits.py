"""One GRPO loop at a time: the global concurrency limit that deployed runs share."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import PrefectException
from prefect.runtime import deployment, flow_run
from prefect.states import Running

from dr_irl.errors import UserError
from tasks.orchestration.interruption import stop_if_requested

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_ASKS = 5.0
_LEASE_SECONDS = 60.0
"""After which the slot of a run that was killed is free again."""
WAITING = "WaitingForSlot"
"""Name of the state of a run that waits: it has begun, and does nothing."""


@contextmanager
def slot(limit: str) -> Iterator[None]:
    """Hold a slot of a global limit while a block runs; waits for one. A run that is not deployed shares no server.

    Raises:
        UserError: the server has no such limit.
        InterruptedRunError: the run was asked to stop while it waited.
    """
    with ExitStack() as held:
        if limit and deployment.id:
            _acquire(limit, held)
        yield


def _acquire(limit: str, held: ExitStack) -> None:
    told = False
    while True:
        stop_if_requested()
        try:
            held.enter_context(
                concurrency(
                    limit,
                    timeout_seconds=_SECONDS_BETWEEN_ASKS,
                    lease_duration=_LEASE_SECONDS,
                    strict=True,
                    # Else a server that is away for seconds ends the loop in the middle of a step.
                    raise_on_lease_renewal_failure=False,
                )
            )
            if told:
                _show(Running())
            return
        except TimeoutError:
            if not told:
                why = f"waiting for a slot of the limit {limit!r}: another run has it, or the server is away"
                logger.info("%s", why)
                _show(Running(name=WAITING, message=why))
            told = True
        except ConcurrencySlotAcquisitionError as error:
            raise UserError(
                f"no slot of the concurrency limit {limit!r} can be had ({error}); deployments/bootstrap.sh creates it"
            ) from error


def _show(state: State[None]) -> None:
    """Let people see what the run does; a run that was asked to cancel meanwhile stays so: the server sees to it."""
    if flow_run.id is None:
        return
    try:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run.id, state)
    except (httpx.HTTPError, PrefectException) as error:
        # How a run is shown is no reason to lose it.
        logger.warning("the server does not show that this run is %s: %s", state.name, error)
