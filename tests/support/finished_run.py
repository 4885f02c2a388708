"""A finished run, made by hand: every artifact that gate and registry read, with refusals as a test wants them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.store import Identity
from dr_irl.categories import ALL_LABELS, BENIGN, HARM_CATEGORIES
from dr_irl.evaluation.run import summarise
from dr_irl.language.adapters import POLICY, add_policy_adapter, save_adapter
from dr_irl.language.load import load_causal_lm
from dr_irl.profile import load_settings
from dr_irl.promotion.published import MODELS, VERSION_FILE
from dr_irl.records import Answer, Example, RewardReading
from dr_irl.results.summaries import BalanceSummary
from flows.record import RunRecord

ROWS = 20
SECRET = "how do I do the harmful thing"
"""A prompt: it must not be shown."""


def finished_run(store: Store, number: int = 1, *, refused: int = ROWS, champion: str | None = None) -> RunRecord:
    """Record a run.

    Args:
        store: where.
        number: of the run; its adapter differs from that of every other.
        refused: how many of 20 prompts of each harm category the result refuses; the unaligned model refuses none.
        champion: URI of the adapter that it was evaluated beside, in a folder; refuses 10 of 20.
    """
    name = f"{number:08x}"
    made = {
        "balance": _artifact(store, "balance", name, _write_balance),
        "panel": _artifact(store, "panel", name, _write_panel),
        "panel-report": _artifact(store, "panel-report", name, _write_readings),
        "grpo": _artifact(store, "grpo", name, lambda folder: write_adapter(folder / "adapter", number)),
        "report": _artifact(store, "report", name, lambda folder: _write(folder / "report.html", SECRET)),
    }
    refusals = {"unaligned": 0, "aligned": refused}
    if champion is not None:
        made["champion"] = _artifact(store, "champion", name, lambda folder: _copy(champion, folder / "adapter"))
        refusals["champion"] = ROWS // 2
    for model, count in refusals.items():
        node = f"evaluation/{model}"
        made[node] = _artifact(store, node, name, lambda folder, m=model, n=count: _write_answers(folder, m, n))
    settings = load_settings("smoke", {"models.champion": champion} if champion else {})
    record = RunRecord(run_id=f"smoke-20261130-0300{number:02}-{name}", settings=settings, artifacts=made)
    store.write_text(f"runs/{record.run_id}.json", record.model_dump_json())
    return record


def write_adapter(folder: Path, seed: int) -> None:
    """Write an adapter of the tiny model."""
    base = load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    model = add_policy_adapter(base, rank=2, adapted_layers=1, target_modules=["q_proj"], generator=generator)
    save_adapter(model, POLICY, folder)


def published_files(store: Store, name: str) -> list[str]:
    """Return the keys of everything that belongs to a model."""
    return sorted(store.backend.files(f"{MODELS}/{name}"))


def read_about(store: Store, name: str, version: str) -> dict[str, object]:
    """Return what a version says of itself."""
    return json.loads(store.read_text(f"{MODELS}/{name}/{version}/{VERSION_FILE}"))["about"]


def _artifact(store: Store, stage: str, fingerprint: str, write: Callable[[Path], None]) -> ArtifactRef:
    with store.build(Identity(stage, fingerprint, {}, {}, {})) as folder:
        write(folder)
    return store.ref(stage, fingerprint)


def _write_balance(folder: Path) -> None:
    counts = dict.fromkeys(ALL_LABELS, ROWS)
    _write(folder / "balance.json", json.dumps(asdict(BalanceSummary(counts, counts, 1.0, 1.0, {}))))
    rows = [Example(label, SECRET, label, "seed", "train", (), "No.", None) for label in ALL_LABELS]
    Example.write(rows, folder / "examples.parquet")


def _write_panel(folder: Path) -> None:
    for label in ALL_LABELS:
        (folder / label).mkdir()
        _write(folder / label / "training.json", json.dumps({"train_rows": ROWS, "gaps": [1.0], "losses": [0.5]}))


def _write_readings(folder: Path) -> None:
    """Every reward model is right on all its pairs; half of them are won by the longer answer, half by the shorter."""
    RewardReading.write(
        [
            RewardReading(label, label, "completion", f"{row}", 1.0, -1.0, 5, 4 + 2 * (row % 2), None, None)
            for label in ALL_LABELS
            for row in range(ROWS)
        ],
        folder / "readings.parquet",
    )


def _write_answers(folder: Path, model: str, refused: int) -> None:
    answers = [
        Answer("harmful", f"{c}-{n}", SECRET, c, f"{n}", n < refused, False)
        for c in HARM_CATEGORIES
        for n in range(ROWS)
    ]
    answers += [
        Answer(suite, f"{suite}-{n}", "?", BENIGN, f"answer {n}", False, False)
        for suite in ("ordinary", "lookalike")
        for n in range(ROWS)
    ]
    Answer.write(answers, folder / "answers.parquet")
    _write(folder / "summary.json", json.dumps(asdict(summarise(model, answers, 50.0))))


def _copy(source: str, target: Path) -> None:
    shutil.copytree(source, target)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
