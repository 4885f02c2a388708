"""The DAG as a Prefect flow: every node a task, in the order that `dag.py` lays out."""

import logging
from collections.abc import Mapping
from typing import Any

from prefect import flow
from prefect.futures import PrefectFuture

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.address import parse_path
from dr_irl.config import Settings
from dr_irl.errors import CorruptArtifactError
from dr_irl.profile import Shipped, load_settings
from flows.declaring import FLOW
from flows.lasting import open_lasting
from flows.plan import plan_run
from flows.promotion import against_champion, promote_run
from flows.record import RunRecord, finish_run
from flows.runners.running import Runner, running_on, stages_share_a_machine
from tasks import stages
from tasks.dag import Dag, Selection, build_dag, select
from tasks.identify import Named, identify, refs
from tasks.orchestration.caching import ArtifactKey, import_maker, stage_task
from tasks.orchestration.failures import ending_in_a_sentence
from tasks.orchestration.interruption import stop_if_requested, stopping_on_signals
from tasks.orchestration.machine import spare_what_stays
from tasks.orchestration.pages import show_run, show_stage
from tasks.orchestration.results import result_storage

logger = logging.getLogger(__name__)

_WITHOUT_POLICY = frozenset({stages.SOURCES, stages.ROUTE, stages.REPORT})
"""The stages that never load the policy."""


@flow(name="train", **FLOW)
@ending_in_a_sentence
@stopping_on_signals()
def dr_irl_pipeline(
    profile: Shipped | str = "demo",
    overrides: dict[str, Any] | None = None,
    store: str = "store",
    output: str | None = None,
    from_stage: str | None = None,
    refresh: list[str] | None = None,
    only: list[str] | None = None,
    promote: str | None = None,
    runner: Runner = "threads",
) -> RunRecord | dict[str, ArtifactRef]:
    """Align a model with DR-IRL.

    Args:
        profile: the name of a shipped one, or the path of a YAML file.
        overrides: dotted setting name -> value, for example `{"grpo.steps": 20}`.
        store: a folder or `s3://bucket/prefix` for artifacts.
        output: a folder that receives the adapter, the report and the run's record; none by default.
        from_stage: build this stage and everything that depends on it anew, for example `grpo`.
        refresh: build these stages anew and nothing else, for example `["hardness"]`.
        only: run these stages and what they need, and stop, for example `["balance"]`.
        promote: a name under which the result of a whole run is published, if it beats the champion of that name.
        runner: what builds the stages: `threads`, `processes`, or a cluster by `dask` or `ray`.

    Returns:
        The run's record; with `only`, the artifacts that were asked for and what they need.
    """
    opened = open_lasting(store, output)
    settings = load_settings(profile, overrides)
    if promote:
        settings = against_champion(settings, opened, promote)
    selection = select(build_dag(settings), from_stage=from_stage, refresh=refresh or (), only=only or ())
    with running_on(runner):
        return align(settings, opened, selection, output=output, promote=promote)


def align(
    settings: Settings,
    store: Store,
    selection: Selection | None = None,
    *,
    output: str | None = None,
    promote: str | None = None,
) -> RunRecord | dict[str, ArtifactRef]:
    """Run the DAG, or the part of it that was selected, in the flow that calls this: its tasks stand on that page.

    Args:
        settings: of the run.
        store: for artifacts.
        selection: what part to run; all by default.
        output: as for the flow `train`.
        promote: as for the flow `train`.

    Returns:
        The run's record; for a part of the DAG, its artifacts.

    Raises:
        GateError: the result was to be published, and may not replace the champion.
    """
    dag = build_dag(settings)
    chosen = selection or select(dag)
    named = identify(dag, settings, store, chosen.nodes)
    with store.needing(refs(named).values(), logger.info, while_waiting=stop_if_requested):
        try:
            artifacts = _run(dag, chosen, settings, store, named)
        except CorruptArtifactError as error:
            # It was moved aside; what is whole is found again, so the second pass builds only what was damaged.
            logger.warning("%s; building it again", error)
            artifacts = _run(dag, Selection(chosen.nodes), settings, store, named)
        if "report" not in artifacts:  # it reads everything: a run that has it is whole
            return artifacts
        record = finish_run(store, settings, artifacts, parse_path(output, "output") if output else None)
        show_run(record.run_id, record.artifacts["report"], store)
        if promote:
            promote_run(record, store, promote)
        return record


def _run(
    dag: Dag, selection: Selection, settings: Settings, store: Store, named: Mapping[str, Named]
) -> dict[str, ArtifactRef]:
    if missing := [name for name, at in plan_run(named, store, selection.rebuild).items() if at.state != "hit"]:
        for name in missing:
            import_maker(dag[name].stage)
        if stages_share_a_machine() and {dag[name].stage for name in missing} - _WITHOUT_POLICY:
            from tasks.models import check_policy  # what the stages import, too

            check_policy(settings)
        spare_what_stays()
    futures: dict[str, PrefectFuture[ArtifactKey]] = {}
    results, crowded = result_storage(store), stages_share_a_machine()
    for name in selection.nodes:
        node = dag[name]
        futures[name] = (
            stage_task(node.stage)
            .with_options(result_storage=results)
            .submit(
                settings,
                store.uri,
                {role: futures[source] for role, source in node.inputs.items()},
                node.variant,
                rebuild=name in selection.rebuild,
                wait_for=[futures[earlier] for earlier in node.after if crowded and earlier in futures],
            )
        )
    artifacts: dict[str, ArtifactRef] = {}
    # In the order of the DAG, so that the error of the stage that failed is raised, not of one that waited for it.
    for name, future in futures.items():
        artifacts[name] = store.ref(**future.result())
        stop_if_requested()  # nothing that is left would see to it where the store has all of it
        show_stage(dag[name].stage, store, artifacts[name])
    return artifacts
