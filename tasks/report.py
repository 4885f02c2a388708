"""The report as a task: everything a run found, in one HTML file, and its headline as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from dr_irl.categories import ALL_LABELS
from dr_irl.evaluation.compare import compare_refusals, rate
from dr_irl.evaluation.suites import SUITES
from dr_irl.records import Answer, ScalingRecord, StepRecord
from dr_irl.report.data import BalanceSummary, Comparison, ReportData, RewardSummary
from dr_irl.report.write import write_report
from tasks.caching import Inputs, Job
from tasks.contents import (
    ANSWERS,
    BALANCE,
    MODELS,
    PANEL,
    REPORT,
    SCALING,
    STEPS,
    TRAINING,
    model_title,
    read_summary,
)

_LIBRARIES = ("torch", "transformers", "peft", "sentence-transformers", "prefect")


def report(folder: Path, job: Job) -> None:
    """Write the report of a run."""
    inputs = job.inputs
    folders = {
        model_title(name): inputs.folder(f"evaluation/{name}") for name in MODELS if f"evaluation/{name}" in inputs
    }
    answers = {name: Answer.read(folder / ANSWERS) for name, folder in folders.items()}
    gaps: dict[str, dict[str, list[float]]] = json.loads((inputs.folder("panel") / PANEL).read_text())
    manifests = {name: inputs.store.manifest(ref) for name, ref in inputs.refs.items()}
    data = ReportData(
        run_id=inputs.refs["grpo"].fingerprint[:8],
        title="DR-IRL run",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        profile=job.settings.profile,
        settings=job.settings.model_dump(mode="json"),
        environment=_environment(job.settings.models.device),
        balance=BalanceSummary(**json.loads((inputs.folder("balance") / BALANCE).read_text())),
        rewards=[_reward_summary(inputs, gaps, label) for label in ALL_LABELS if label in gaps],
        cross_accuracy={m: {c: rate([g > 0 for g in gaps[m][c]]).value for c in ALL_LABELS} for m in gaps},
        steps=StepRecord.read(inputs.folder("grpo") / STEPS),
        scaling=ScalingRecord.read(inputs.folder("grpo") / SCALING),
        models=[read_summary(folder) for folder in folders.values()],
        comparisons=_comparisons(list(folders), answers),
        answers=answers,
        stage_seconds={manifest.stage: manifest.wall_seconds for manifest in manifests.values()},
    )
    write_report(data, folder / REPORT)


def _reward_summary(inputs: Inputs, gaps: dict[str, dict[str, list[float]]], label: str) -> RewardSummary:
    training = json.loads((inputs.folder(f"reward/{label}") / TRAINING).read_text())
    own = gaps[label][label]
    return RewardSummary(
        category=label,
        validation_accuracy=rate(training["wins"]),
        unseen_accuracy=rate([gap > 0 for gap in own]),
        mean_gap=sum(own) / len(own) if own else float("nan"),
        train_rows=training["train_rows"],
        loss=training["losses"],
    )


def _comparisons(models: Sequence[str], answers: dict[str, list[Answer]]) -> list[Comparison]:
    """Compare every model with the one before it, and the last with the first."""
    pairs = list(zip(models, models[1:], strict=False))
    if len(models) > 2:
        pairs.append((models[0], models[-1]))
    return [
        compare_refusals(
            suite,
            before,
            after,
            [answer for answer in answers[before] if answer.suite == suite],
            [answer for answer in answers[after] if answer.suite == suite],
        )
        for before, after in pairs
        for suite in SUITES
    ]


def _environment(device: str) -> dict[str, str]:
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {"machine": machine, "device": device} | {name: version(name) for name in _LIBRARIES}
