"""Does it hold on prompts of other people? Refusal on published sets; writes results/third_party.json.

    python benchmarks/third_party.py --data FOLDER --stores STORES/seed-*

No model was trained on these prompts and no setting chosen on them, but for training prompts that were turned down
(docs/log.md on prompts of the missing kinds): training prompts with eight words in a row in common are counted, and the
sets' own labels are taken as they are. FOLDER holds one Parquet file per set with the columns `id`, `prompt` and what
`SETS` selects by; the sets are their owners' and are no part of this project. Every model of a finished run answers the
same prompts greedily, judged by wording. Only counts are kept, no text.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import torch

from dr_irl.artifacts import Store
from dr_irl.categories import BENIGN
from dr_irl.demonstrations.dedupe import drop_overlaps
from dr_irl.evaluation.judges import JUDGES
from dr_irl.language.sampling import CachedPrefixSampler
from dr_irl.records import Example
from dr_irl.results.statistics import rate
from dr_irl.seeding import numpy_generator, torch_generator
from flows.record import RunRecord, load_run
from tasks.contents import ADAPTER, read_examples
from tasks.job import Inputs
from tasks.models import merged_policy

RESULTS = Path(__file__).parent / "results" / "third_party.json"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Set:
    """Prompts of one kind in one file."""

    file: str
    refuse: bool
    """Whether a prompt is to be refused, by the owner's label."""
    of: Callable[[Row], bool] = lambda row: True


SETS = {
    "XSTest, unsafe": Set("xstest", True, lambda row: not row["is_safe"]),
    "Do-Not-Answer": Set("do_not_answer", True),
    "CatQA, English": Set("catqa", True, lambda row: row["language"] == "en"),
    "AILuminate": Set("ailuminate", True),
    "XSafety, English, seven typical scenarios": Set(
        "xsafety", True, lambda row: row["language"] == "en" and row["harm_category"] is not None
    ),
    "XSTest, safe": Set("xstest", False, lambda row: row["is_safe"]),
    "Alpaca and self-instruct": Set("benign_instructions", False),
    "MT-Bench, first turns": Set("mt_bench", False),
}


def chosen(folder: Path, each: Set, most: int) -> list[Row]:
    """Read a set's prompts, at most so many of them: the same in every run."""
    rows = [row for row in pyarrow.parquet.read_table(folder / f"{each.file}.parquet").to_pylist() if each.of(row)]
    rows.sort(key=lambda row: row["id"])
    if len(rows) > most:
        draws = numpy_generator(0, "third-party prompts").choice(len(rows), size=most, replace=False)
        rows = [rows[place] for place in sorted(draws)]
    return rows


def refused(
    record: RunRecord, inputs: Inputs, adapter: str | None, prompts: Mapping[str, Sequence[Row]]
) -> dict[str, Any]:
    """Let one model of a run answer all prompts; returns what it refused of each set and, where labelled, category."""
    folder = inputs.folder(adapter) / ADAPTER if adapter else None
    model, tokenizer = merged_policy(record.settings, folder)
    sampler = CachedPrefixSampler(
        model,
        tokenizer,
        max_new_tokens=record.settings.evaluation.max_new_tokens,
        temperature=0.0,
        rows_at_once=record.settings.evaluation.rows_at_once,
        report=lambda _: None,
    )
    found: dict[str, Any] = {}
    for name, rows in prompts.items():
        texts = [row["prompt"] for row in rows]
        samples = sampler.sample(texts, per_prompt=1, generator=torch_generator(0, "greedy"))
        judge = JUDGES[record.settings.judge]
        flags = [judge(text, sample.text) for text, (sample,) in zip(texts, samples, strict=True)]
        found[name] = asdict(rate(flags))
        labels = sorted({row["harm_category"] for row in rows} - {None})
        if SETS[name].refuse and labels:
            found[name]["by_category"] = {
                label: asdict(
                    rate([flag for flag, row in zip(flags, rows, strict=True) if row["harm_category"] == label])
                )
                for label in labels
            }
        print(f"{name}: {found[name]['hits']} of {found[name]['count']}", file=sys.stderr, flush=True)
    return found


def overlaps(training: Sequence[Example], prompts: Mapping[str, Sequence[Row]]) -> dict[str, int]:
    """Count the training prompts that share eight words in a row, or the whole text, with a prompt of each set."""
    _, dropped = drop_overlaps(
        training, {name: [row["prompt"] for row in rows] for name, rows in prompts.items()}, ngram=8
    )
    return dropped


def main() -> None:
    """Measure every model of every run; results are written after each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets' Parquet files")
    parser.add_argument("--stores", nargs="+", required=True, help="stores of finished runs")
    parser.add_argument("--most", type=int, default=300, help="prompts of a set")
    options = parser.parse_args()
    prompts = {name: chosen(options.data, each, options.most) for name, each in SETS.items()}
    runs: dict[str, Any] = {}
    for uri in options.stores:
        store = Store(uri)
        record = load_run(store, "latest")
        inputs = Inputs(store, record.artifacts)
        training = read_examples(inputs.folder("balance"), "train")
        models = {"unaligned": None, "warm start": "warm-start", "aligned": "grpo"}
        run = runs[str(record.settings.seed)] = {
            "training_prompts": {"harmful": sum(e.category != BENIGN for e in training), "all": len(training)},
            "overlaps": overlaps(training, prompts),
            "models": {},
        }
        for name, adapter in models.items():
            if adapter is None or adapter in inputs:
                print(f"seed {record.settings.seed}: {name}", file=sys.stderr, flush=True)
                run["models"][name] = refused(record, inputs, adapter, prompts)
        result = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
            "profile": record.settings.profile,
            "prompts": {name: {"count": len(rows), "refuse": SETS[name].refuse} for name, rows in prompts.items()},
            "runs": runs,
        }
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
