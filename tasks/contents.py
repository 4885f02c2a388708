"""What stages find in each other's artifacts: names of files, and the ways to read them."""

import json
from pathlib import Path
from typing import Any

from dr_irl.language.thoughts import answer_of
from dr_irl.records import Completion, Example
from dr_irl.results.summaries import ModelSummary, Rate

EXAMPLES = "examples.parquet"
QUARANTINE = "quarantine.parquet"
"""The rows that came in and are not among the examples, each with its reason."""
BALANCE = "balance.json"
COMPLETIONS = "completions.parquet"
HARDNESS = "hardness.parquet"
TRAINING = "training.json"
READINGS = "readings.parquet"
ADAPTER = "adapter"
TRAINED = "trained"
"""What the report calls the artifact that holds the trained policy, whichever stage made it."""
STEPS = "steps.parquet"
SCALING = "scaling.parquet"
ANSWERS = "answers.parquet"
SUMMARY = "summary.json"
REPORT = "report.html"

UNALIGNED, WARM_STARTED, CHAMPION, ALIGNED = "unaligned", "warm-start", "champion", "aligned"
MODELS = (UNALIGNED, WARM_STARTED, CHAMPION, ALIGNED)
"""The models that a run may evaluate, in the order of training."""


def read_examples(folder: Path, split: str) -> list[Example]:
    """Read the examples of one split from the `balance` artifact."""
    return [example for example in Example.read(folder / EXAMPLES) if example.split == split]


def texts_by_prompt(folder: Path) -> dict[str, list[str]]:
    """Read completions as prompt id -> answers, without the thoughts that stand in the table."""
    texts: dict[str, list[str]] = {}
    for row in Completion.read(folder / COMPLETIONS):
        texts.setdefault(row.prompt_id, []).append(answer_of(row.text))
    return texts


def read_summary(folder: Path) -> ModelSummary:
    """Read the summary that an evaluation wrote."""
    values: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    for table in ("refusal", "over_refusal", "other_refusal"):
        values[table] = {name: Rate(**rate) for name, rate in values.get(table, {}).items()}
    return ModelSummary(**values)


def model_title(name: str) -> str:
    """Return one of `MODELS` as people read it."""
    return name.replace("-", " ")
