"""Evaluates a model that is there already: a registered one, or an adapter anywhere."""

from typing import Any

from prefect import flow

from dr_irl.artifacts import ArtifactRef
from dr_irl.profile import Shipped, load_settings
from flows.adapters import find_adapter
from flows.declaring import FLOW
from flows.lasting import require_lasting
from flows.pipeline import align
from flows.runners.running import Runner, running_on
from tasks.contents import CHAMPION, UNALIGNED
from tasks.dag import build_dag, select
from tasks.orchestration.failures import ending_in_a_sentence
from tasks.orchestration.interruption import stopping_on_signals
from tasks.orchestration.opening import open_store
from tasks.stages import EVALUATION

EVALUATED = (EVALUATION.path(UNALIGNED), EVALUATION.path(CHAMPION))


@flow(name="evaluate", **FLOW)
@ending_in_a_sentence
@stopping_on_signals()
def evaluate_model(
    model: str,
    profile: Shipped | str = "demo",
    overrides: dict[str, Any] | None = None,
    store: str = "store",
    runner: Runner = "threads",
) -> dict[str, ArtifactRef]:
    """Let a model answer the profile's held-out prompts, beside the unaligned one.

    Args:
        model: a registered model, `NAME` for its champion or `NAME/VERSION`; or an adapter of the profile's policy: a
            folder, `s3://bucket/prefix` or a hub id.
        profile: the name of a shipped one, or the path of a YAML file: the prompts, the policy, how it answers.
        overrides: dotted setting name -> value.
        store: a folder or `s3://bucket/prefix` for artifacts; its registry is where `NAME` is looked up.
        runner: what builds the stages: `threads`, `processes`, or a cluster by `dask` or `ray`.

    Returns:
        The artifacts, `evaluation/champion` among them.
    """
    require_lasting(store)
    adapter = find_adapter(model, store)
    opened = open_store(store)
    settings = load_settings(profile, {**(overrides or {}), "models.champion": adapter})
    with running_on(runner):
        found = align(settings, opened, select(build_dag(settings), only=EVALUATED))
    assert isinstance(found, dict)
    return found
