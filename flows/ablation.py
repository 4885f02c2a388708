"""Compares forms of the method: each arm is the profile with other settings, measured on the same prompts."""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.keys import ABLATIONS
from dr_irl.errors import SettingsError
from dr_irl.evaluation.suites import HARMFUL, ORDINARY
from dr_irl.profile import Shipped, load_settings
from dr_irl.records import Answer
from dr_irl.results.statistics import paired_difference
from dr_irl.results.summaries import ModelSummary
from flows.declaring import FLOW
from flows.lasting import open_lasting
from flows.pipeline import align
from flows.runners.running import Runner, running_on
from tasks.contents import ALIGNED, ANSWERS, read_summary
from tasks.dag import build_dag, select
from tasks.orchestration.failures import ending_in_a_sentence
from tasks.orchestration.interruption import stopping_on_signals
from tasks.stages import EVALUATION

logger = logging.getLogger(__name__)

ARMS: Mapping[str, dict[str, Any]] = {
    "static": {"scaling.combine": "none"},
    "data": {"scaling.combine": "data"},
    "model": {"scaling.combine": "model"},
    "both": {"scaling.combine": "product"},
}
"""The method's own question: does the scaling help, and which factor of it?"""

RESULT = EVALUATION.path(ALIGNED)


@flow(name="ablate", **FLOW)
@ending_in_a_sentence
@stopping_on_signals()
def ablate(
    profile: Shipped | str = "demo",
    overrides: dict[str, Any] | None = None,
    arms: dict[str, dict[str, Any]] | None = None,
    seeds: list[int] | None = None,
    store: str = "store",
    runner: Runner = "threads",
) -> list[dict[str, Any]]:
    """Align once per arm and seed, and compare every arm with the first; what arms share is computed once.

    Args:
        profile: the name of a shipped one, or the path of a YAML file.
        overrides: dotted setting name -> value, for all arms.
        arms: name -> overrides of its own, for example `{"static": {"scaling.combine": "none"}, "both": {}}`; the
            first is what the others are compared with. By default static rewards, either factor, and both.
        seeds: the whole DAG is run with each; `[0]` by default.
        store: a folder or `s3://bucket/prefix` for artifacts.
        runner: what builds the stages: `threads`, `processes`, or a cluster by `dask` or `ray`.

    Returns:
        The table that stands on the page of the run: a row per arm.
    """
    opened, chosen = open_lasting(store), arms or dict(ARMS)
    # Every arm is checked before the first is run, which may take hours.
    plans = {
        (arm, seed): load_settings(profile, {**(overrides or {}), **changes, "seed": seed})
        for seed in dict.fromkeys(seeds or [0])
        for arm, changes in chosen.items()
    }
    if len(chosen) < 2:
        raise SettingsError(f"arms = {list(chosen)}: give at least two, the first is what the others are compared with")
    found: dict[str, list[ArtifactRef]] = {arm: [] for arm in chosen}
    for (arm, seed), settings in plans.items():
        logger.info("arm %s, seed %d", arm, seed)
        with running_on(runner):
            artifacts = align(settings, opened, select(build_dag(settings), only=[RESULT]))
        assert isinstance(artifacts, dict)
        found[arm].append(artifacts[RESULT])
    table = compare_arms(opened, found)
    create_table_artifact(table, key="ablation", description=f"Percent refused, compared with {next(iter(chosen))!r}.")
    place = opened.write_text(f"{ABLATIONS}/{datetime.now(UTC):%Y%m%d-%H%M%S}.json", json.dumps(table, indent=2))
    logger.info("the table is in %s", place)
    return table


def compare_arms(store: Store, found: Mapping[str, Sequence[ArtifactRef]]) -> list[dict[str, Any]]:
    """Make a row per arm: shares refused, averaged over seeds, and the paired difference to the first arm in points.

    Args:
        store: where the evaluations are.
        found: arm -> its evaluations, in the same order of seeds for every arm.
    """
    folders = {arm: [store.fetch(ref) for ref in refs] for arm, refs in found.items()}
    answers = {arm: [Answer.read(folder / ANSWERS) for folder in paths] for arm, paths in folders.items()}
    first = next(iter(found))
    table: list[dict[str, Any]] = []
    for arm, paths in folders.items():
        row: dict[str, Any] = {"arm": arm, "seeds": len(paths)} | _shares([read_summary(path) for path in paths])
        if arm != first:
            row |= {f"{suite}, difference": _difference(answers[arm], answers[first], suite) for suite in _COMPARED}
        table.append(row)
    return table


_COMPARED = (HARMFUL, ORDINARY)


def _shares(summaries: Sequence[ModelSummary]) -> dict[str, float]:
    def percent(rates: Sequence[Any]) -> float:
        return round(100 * fmean(rate.value for rate in rates), 1)

    return {
        HARMFUL: percent([summary.refusal["all"] for summary in summaries]),
        **{suite: percent([s.other_refusal[suite] for s in summaries]) for suite in summaries[0].other_refusal},
        **{suite: percent([s.over_refusal[suite] for s in summaries]) for suite in summaries[0].over_refusal},
        "perplexity": round(fmean(summary.perplexity for summary in summaries), 2),
    }


def _difference(mine: Sequence[Sequence[Answer]], other: Sequence[Sequence[Answer]], suite: str) -> str:
    flags = [[[a.refused for a in answers if a.suite == suite] for answers in arm] for arm in (mine, other)]
    estimate = paired_difference(*flags)
    return f"{100 * estimate.value:+.1f} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"
