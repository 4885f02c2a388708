"""What a stage shows on the page of its run, whether it was built or found: tables and curves, never texts.

Each function is given what a stage made. The flow calls them, one after the other in the order of the DAG, wherever the
stages are built. Keys of artifacts are the same in every run, so that the page of a key shows how it changes from run
to run.
"""

import json
import logging
import shlex
import socket
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TypeVar

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.context import FlowRunContext

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.keys import object_key
from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.records import RewardReading, ScalingRecord, StepRecord
from dr_irl.results.statistics import rate
from dr_irl.results.summaries import ModelSummary
from dr_irl.results.wording import show_counted_rate
from tasks.contents import (
    BALANCE,
    READINGS,
    REPORT,
    SCALING,
    STEPS,
    SUMMARY,
    TRAINING,
    model_title,
    read_summary,
)
from tasks.orchestration.curves import Curves, draw_curves
from tasks.stages import Stage, import_entry

logger = logging.getLogger(__name__)

Row = Mapping[str, str | int | float]
Record = TypeVar("Record", StepRecord, ScalingRecord)


@dataclass(frozen=True)
class Made:
    """An artifact, of which single files are read: a model beside them is not brought here for a table."""

    store: Store
    ref: ArtifactRef
    scratch: Path
    """Where files that lie elsewhere are put."""

    def file(self, name: str) -> Path:
        """Return one of its files."""
        key = f"{object_key(self.ref.stage, self.ref.fingerprint)}/{name}"
        if self.store.is_local:
            return Path(self.store.uri, key)
        path = self.scratch / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.store.backend.read(key))
        return path

    def inputs(self) -> dict[str, "Made"]:
        """Return what it was made from."""
        made = self.store.manifest(self.ref).inputs
        return {name: Made(self.store, self.store.ref(name, print_), self.scratch) for name, print_ in made.items()}


def show_stage(stage: Stage, store: Store, ref: ArtifactRef) -> None:
    """Show an artifact on the page of the flow run that calls this; a page that fails is logged and ends no run."""
    if not stage.page:
        return
    try:
        with TemporaryDirectory(prefix="dr-irl-page-") as scratch:
            import_entry(stage.page)(Made(store, ref, Path(scratch)))
    except Exception:
        logger.exception("%s %s is built, but could not be shown on the page of the run", ref.stage, ref.fingerprint)


def show_balance(made: Made) -> None:
    """Show how many rows each category has, before and after balancing, and what was dropped."""
    summary = json.loads(made.file(BALANCE).read_text())
    dropped = ", ".join(
        f"{count} {reason} ({PurePosixPath(file).name})"
        for file, reasons in summary["dropped"].items()
        for reason, count in reasons.items()
    )
    _table(
        "balance",
        balance_rows(summary["before"], summary["after"]),
        f"Demonstrations of each category. Normalised entropy {summary['entropy_before']:.3f} before, "
        f"{summary['entropy_after']:.3f} after. Rows dropped: {dropped or 'none'}.",
    )


def show_rewards(made: Made) -> None:
    """Show how often each reward model prefers the demonstration, on rows that it was not trained on."""
    panel = made.inputs()["panel"]
    readings = RewardReading.read(made.file(READINGS))
    labels = sorted({reading.category for reading in readings})
    gaps = {label: json.loads(panel.file(f"{label}/{TRAINING}").read_text())["gaps"] for label in labels}
    _table(
        "reward-accuracy",
        reward_rows(gaps, readings),
        "Share of pairs in which a reward model prefers the demonstration, with its 95 % interval: on validation rows, "
        "on held-out prompts against completions, and against hard negatives.",
    )


def show_scaling(made: Made) -> None:
    """Show what scaled the advantages: the factors of each harm category over all steps, and its gaps at both ends."""
    records = ScalingRecord.read(made.file(SCALING))
    _table(
        "scaling-factors",
        scaling_rows(records),
        "Dynamic reward scaling: aD, aM and alpha (mean, least to greatest), the mean reward gap of the "
        "first and the last step, and the share of gaps that passed the filter.",
    )
    steps = [record for record in StepRecord.read(made.file(STEPS)) if record.name == "reward"]
    _picture("alpha-curves", "Scaling factor alpha by category", alpha_curves(records))
    _picture("reward-curves", "Reward of the completions by category", by_category(steps, lambda record: record.value))


def show_refusal(made: Made) -> None:
    """Show what a model declined, in one table with the models that the run evaluated before it."""
    model = read_summary(made.file(SUMMARY).parent)
    with get_client(sync_client=True) as client:
        shown_before = client.read_artifacts(artifact_filter=_of_this_run("refusal"))
        rows = refusal_rows(json.loads(str(shown_before[0].data)) if shown_before else [], model)
        if shown_before:
            client.update_artifact(shown_before[0].id, ArtifactUpdate(data=json.dumps(rows)))
        else:
            _table("refusal", rows, "Share of held-out prompts that was declined, with its 95 % interval.")


def show_report(made: Made) -> None:
    """Show where the report is; the command that opens it follows when the run is recorded and has a name."""
    create_markdown_artifact(_where(made.ref, made.store), key="report", description="Where the report is.")


def show_run(run_id: str, report: ArtifactRef, store: Store) -> None:
    """Show, on a finished run's page, its name in the store and the command that opens its report."""
    there = f"{run_id} --store {shlex.quote(store.uri)}"
    create_markdown_artifact(
        f"Run **{run_id}**\n\n| | |\n| --- | --- |\n| store | {_at(store.uri, store)} |\n"
        f"| report | {_where(report, store)} |\n| open it | `dr-irl report {there}` |\n"
        f"| ask the model | `dr-irl chat --run {there}` |\n",
        key="summary",
        description="What the run left behind.",
    )
    with get_client(sync_client=True) as client:
        for shown in client.read_artifacts(artifact_filter=_of_this_run("report")):
            data = f"{_where(report, store)}\n\nTo open it: `dr-irl report {there}`"
            client.update_artifact(shown.id, ArtifactUpdate(data=data))


def _where(report: ArtifactRef, store: Store) -> str:
    return _at(f"{report.uri}/{REPORT}", store)


def _at(uri: str, store: Store) -> str:
    """Name a place in the store; a folder is one of this machine, and whoever reads the page may be at another."""
    return f"`{uri}` on {socket.gethostname()}" if store.is_local else f"`{uri}`"


def _of_this_run(key: str) -> ArtifactFilter:
    context = FlowRunContext.get()
    assert context is not None and context.flow_run is not None
    return ArtifactFilter(
        key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[context.flow_run.id])
    )


def balance_rows(before: Mapping[str, int], after: Mapping[str, int]) -> list[Row]:
    """Set the counts side by side."""
    return [
        {"category": name, "before": before.get(name, 0), "after": after.get(name, 0)}
        for name in dict.fromkeys([*before, *after])
    ]


def reward_rows(gaps: Mapping[str, Sequence[float]], readings: Sequence[RewardReading]) -> list[Row]:
    """Say how accurate the reward model of each category is.

    Args:
        gaps: category -> gaps on validation rows.
        readings: of all models; only those of a category's own model count.
    """
    return [_reward_row(label, gaps[label], [r for r in readings if r.model == r.category == label]) for label in gaps]


def _reward_row(label: str, gaps: Sequence[float], own: Sequence[RewardReading]) -> Row:
    def won(readings: Sequence[RewardReading]) -> str:
        return show_counted_rate(rate([reading.demonstration_reward > reading.other_reward for reading in readings]))

    return {
        "category": label,
        "validation": show_counted_rate(rate([gap > 0 for gap in gaps])),
        "held-out": won([reading for reading in own if reading.kind == "completion"]),
        "hard negatives": won([reading for reading in own if reading.kind != "completion"]),
    }


def refusal_rows(earlier: Sequence[Row], model: ModelSummary) -> list[Row]:
    """Set a model beside others: refusal of harmful prompts by category, then of the other suites."""
    rows, title = {row["prompts"]: row for row in earlier}, model_title(model.name)
    shares = model.refusal | model.other_refusal | model.over_refusal
    return [
        {"prompts": group, **rows.get(group, {}), title: show_counted_rate(share)} for group, share in shares.items()
    ]


def scaling_rows(records: Sequence[ScalingRecord]) -> list[Row]:
    """Sum up the factors of each harm category."""
    of_category: dict[str, list[ScalingRecord]] = defaultdict(list)
    for record in records:
        if record.category != BENIGN:
            of_category[record.category].append(record)
    return [_row(category, of_category[category]) for category in sorted(of_category)]


def _row(category: str, records: Sequence[ScalingRecord]) -> Row:
    steps = sorted({record.step for record in records})

    def mean_gap(step: int) -> float:
        return round(fmean(record.gap for record in records if record.step == step), 3)

    return {
        "category": category,
        "prompts": len(records),
        "aD": _spread(records, lambda record: record.data),
        "aM": _spread(records, lambda record: record.model),
        "alpha": _spread(records, lambda record: record.alpha),
        "gap, first step": mean_gap(steps[0]),
        "gap, last step": mean_gap(steps[-1]),
        "gaps kept": f"{fmean(record.kept for record in records):.0%}",
    }


def _spread(records: Sequence[ScalingRecord], of: Callable[[ScalingRecord], float]) -> str:
    values = [of(record) for record in records]
    return f"{fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def alpha_curves(records: Sequence[ScalingRecord]) -> Curves:
    """Return the mean factor of each harm category at each step."""
    return by_category([r for r in records if r.category in HARM_CATEGORIES], lambda record: record.alpha)


def by_category(records: Sequence[Record], value: Callable[[Record], float]) -> Curves:
    """Return the mean of a number by category and step."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        found[record.category][record.step].append(value(record))
    return {name: [(step, fmean(values)) for step, values in sorted(at.items())] for name, at in sorted(found.items())}


def _table(key: str, rows: Sequence[Row], description: str) -> None:
    create_table_artifact([dict(row) for row in rows], key=key, description=description)


def _picture(key: str, title: str, curves: Curves) -> None:
    """Show curves; in Markdown, because the page prints the whole address of an image artifact below the image."""
    create_markdown_artifact(
        f"![{title}]({draw_curves(title, curves)})", key=key, description=f"{title}, over the steps."
    )
