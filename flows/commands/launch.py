"""Starts a run from the command line, through Prefect unless there is nothing to run."""

import importlib
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.address import parse_path
from dr_irl.errors import InterruptedRunError
from dr_irl.profile import load_settings
from flows.commands.temporary_server import TemporaryServer
from flows.commands.terminal import print_artifacts, print_aside, print_result
from flows.plan import plan_run
from flows.prefect_server import is_configured
from flows.record import RunRecord, finish_run
from tasks.dag import build_dag, select
from tasks.identify import identify, refs
from tasks.orchestration.opening import open_store

if TYPE_CHECKING:
    from prefect import Flow


def launch(
    profile: str,
    overrides: Mapping[str, Any],
    *,
    store: str,
    output: str | None,
    part: Mapping[str, Any],
    options: Mapping[str, Any],
) -> None:
    """Run the DAG or the part of it that was asked for, and print what came out.

    Args:
        profile: as for the flow.
        overrides: as for the flow.
        store: as for the flow.
        output: as for the flow.
        part: `from_stage`, `refresh` and `only`, as for the flow.
        options: `promote` and `runner`, as for the flow.
    """
    opened = open_store(store)
    result = None if is_configured() or options["promote"] else _find_all(profile, overrides, opened, output, part)
    if result is None:
        given = {"profile": profile, "overrides": dict(overrides), "store": opened.uri, "output": output}
        result = run_flow("flows.pipeline:dr_irl_pipeline", **given, **part, **options)
    if isinstance(result, RunRecord):
        print_result(opened, result, output)
    else:
        print_artifacts(result)


def _find_all(
    profile: str, overrides: Mapping[str, Any], store: Store, output: str | None, part: Mapping[str, Any]
) -> RunRecord | dict[str, ArtifactRef] | None:
    """Return what a run would, if the store has all of it: a temporary Prefect server would take seconds to say so."""
    settings = load_settings(profile, dict(overrides))
    dag = build_dag(settings)
    selection = select(dag, **{name: value for name, value in part.items() if value})
    named = identify(dag, settings, store, selection.nodes)
    with store.needing(refs(named).values(), print_aside):
        planned = plan_run(named, store, selection.rebuild)
        if any(plan.state != "hit" for plan in planned.values()):
            return None
        if "report" not in named:
            return refs(named)
        return finish_run(store, settings, refs(named), parse_path(output, "--output") if output else None)


def run_flow(entry: str, **parameters: Any) -> Any:
    """Run a flow, `module:name`, on the configured server or a temporary one, with progress on the terminal."""
    server = None if is_configured() else TemporaryServer()
    if server is not None:
        server.use()
    from dr_irl.progress import ConsoleProgress
    from tasks.orchestration.progress import report_to

    module, _, name = entry.partition(":")
    flow = getattr(importlib.import_module(module), name)
    if server is not None:
        server.wait()
    with ConsoleProgress() as progress:
        report_to(progress)
        return _run_to_its_end(flow, parameters)


def _run_to_its_end(flow: "Flow[..., Any]", given: Mapping[str, Any]) -> Any:
    """Call a flow. Its run is created here: Prefect, interrupted right after that, would leave it pending forever."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import TerminationSignal
    from prefect.flow_engine import run_flow
    from prefect.states import Cancelled, Pending
    from prefect.utilities.callables import get_call_parameters

    parameters, run = get_call_parameters(flow.fn, (), dict(given)), None
    with get_client(sync_client=True) as client:
        try:
            with _holding_signals_back():
                run = client.create_flow_run(flow, parameters=flow.serialize_parameters(parameters), state=Pending())
            return run_flow(flow, flow_run=run, parameters=parameters)
        except (KeyboardInterrupt, SystemExit, TerminationSignal) as ended:
            state = client.read_flow_run(run.id).state if run else None
            if run and not (state and state.is_final()):
                number = signal.SIGINT if isinstance(ended, KeyboardInterrupt) else signal.SIGTERM
                message = str(InterruptedRunError.by_signal(number))
                client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
            raise


@contextmanager
def _holding_signals_back() -> Iterator[None]:
    """Let SIGTERM and SIGINT come when the block is over."""
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        del frame
        held.append(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in held:
        signal.raise_signal(number)
