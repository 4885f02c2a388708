"""The report as a task: everything a run found, in one HTML file, and its headline as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from dr_irl.evaluation.suites import SUITES
from dr_irl.records import Answer, RewardReading, ScalingRecord, StepRecord
from dr_irl.report.data import ReportData
from dr_irl.report.write import write_report
from dr_irl.results.comparison import compare_refusals
from dr_irl.results.summaries import BalanceSummary, Comparison, LearningPoint, RewardSummary
from dr_irl.reward.readings import cross_accuracy, summarise_reward
from tasks.contents import (
    ANSWERS,
    BALANCE,
    MODELS,
    READINGS,
    REPORT,
    SCALING,
    STEPS,
    TRAINED,
    TRAINING,
    model_title,
    read_summary,
)
from tasks.job import Inputs, Job

_LIBRARIES = ("torch", "transformers", "peft", "sentence-transformers", "prefect")


def report(folder: Path, job: Job) -> None:
    """Write the report of a run."""
    inputs = job.inputs
    folders = {
        model_title(name): inputs.folder(f"evaluation/{name}") for name in MODELS if f"evaluation/{name}" in inputs
    }
    answers = {name: Answer.read(folder / ANSWERS) for name, folder in folders.items()}
    readings = RewardReading.read(inputs.folder("panel-report") / READINGS)
    manifests = {name: inputs.store.manifest(ref) for name, ref in inputs.refs.items()}
    trained = inputs.folder(TRAINED)
    data = ReportData(
        run_id=inputs.refs[TRAINED].fingerprint[:8],
        title="DR-IRL run",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        profile=job.settings.profile,
        settings=job.settings.model_dump(mode="json"),
        environment=_environment(job.settings.models.device),
        balance=BalanceSummary(**json.loads((inputs.folder("balance") / BALANCE).read_text())),
        rewards=[_reward_summary(inputs, readings, label) for label in job.settings.reward_labels],
        cross_accuracy=cross_accuracy(readings),
        steps=StepRecord.read(steps) if (steps := trained / STEPS).is_file() else [],
        scaling=ScalingRecord.read(scaling) if (scaling := trained / SCALING).is_file() else [],
        models=[read_summary(folder) for folder in folders.values()],
        comparisons=_comparisons(list(folders), answers),
        answers=answers,
        stage_seconds={manifest.stage: manifest.wall_seconds for manifest in manifests.values()},
    )
    write_report(data, folder / REPORT)


def _reward_summary(inputs: Inputs, readings: Sequence[RewardReading], label: str) -> RewardSummary:
    training = json.loads((inputs.folder("panel") / label / TRAINING).read_text())
    curve = [LearningPoint(**point, kept=place == training["best"]) for place, point in enumerate(training["curve"])]
    return summarise_reward(
        label,
        readings,
        train_rows=training["train_rows"],
        validation_gaps=training["gaps"],
        loss=training["losses"],
        curve=curve,
    )


def _comparisons(models: Sequence[str], answers: dict[str, list[Answer]]) -> list[Comparison]:
    """Compare every model with the one before it in training, and the result with the first and with the champion."""
    trained = [model for model in models if model != "champion"]
    pairs = list(zip(trained, trained[1:], strict=False))
    if len(trained) > 2:
        pairs.append((trained[0], trained[-1]))
    pairs += [(model, trained[-1]) for model in models if model == "champion"]
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
