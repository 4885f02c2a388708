"""The reward models' speed and memory beside TRL's, measured on this machine; writes results/reward.json.

    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/reward.py           # --quick for a first look, --turns, --rows, --prompts for a longer one

Claims, all on one backbone of profile laptop (its depth, adapted layers, rank, batch, epochs):

- Scoring answers of seven categories is at least six times as fast as TRL does it, whose every reward model scores
  every answer, and costs at most 1.15 times what one reward model of ours costs for all of them.
- A process that holds seven reward models is at most 1.1 times as large as with one.
- Training all seven takes no longer than training one on all their rows, and half the time of seven runs of TRL's
  `RewardTrainer` at most: as the DAG does it, two at once on one torch thread each and the odd last one on both.
  Together over one backbone (`reward.training: joint`) is timed besides, for what it costs where there is one device.

Both sides score the same texts, token for token, and it is checked first that they come to the same rewards. Both
train on as many pairs, in as many steps. Ours scores its held-out rows besides. Clocks run over tokenising,
adding adapters and the work itself; imports and reading weights are on no clock. Sides take turns.

The share of the machine's peak counts what cannot be left out: 2 x matrix weights x tokens forwards, padding,
embeddings, attention's own products and repeated preambles left out; backwards the gradients of states from the head
down to the lowest adapted layer's attention (its frozen query, key and value matrices feed nothing that learns), and
those of the adapters' weights. The peak is the best of several bfloat16 products of 2048 x 2048 matrices.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import reward_work as work
import torch
import trl_reward
from timing import in_turns, machine_facts, peak_gflops, ratio, spread, status_mb, target
from torch import Tensor

from dr_irl.categories import HARM_CATEGORIES
from dr_irl.config import Settings
from dr_irl.language.adapters import share_weights
from dr_irl.language.load import load_tokenizer
from dr_irl.profile import load_settings
from dr_irl.reward.panel import RewardPanel
from tasks.orchestration.machine import give_back_memory

RESULTS = Path(__file__).parent / "results" / "reward.json"
TOLERANCE = 0.1
"""Largest difference of a reward between the two sides, in standard deviations: bfloat16 rounds to 3 digits."""


def check_same_rewards(panel: RewardPanel, scorer: trl_reward.Scorer, batch: work.Batch) -> dict[str, float]:
    """Compare our rewards with TRL's for the same saved adapters; refuses to go on where they differ.

    Raises:
        SystemExit: a reward differs by more than bfloat16 explains.
    """
    mine = panel.score(batch.categories, batch.prompts, batch.answers)
    columns = torch.tensor([HARM_CATEGORIES.index(category) for category in batch.categories])
    theirs: Tensor = scorer(batch.prompts, batch.answers).cpu().float()
    theirs = theirs[torch.arange(len(columns)), columns]
    deviation = float((mine - theirs).abs().max() / theirs.std())
    correlation = float(torch.corrcoef(torch.stack([mine, theirs]))[0, 1])
    if deviation > TOLERANCE:
        raise SystemExit(
            f"rewards differ by {deviation:.3f} standard deviations, {TOLERANCE} are allowed: not equal work"
        )
    return {"largest_difference_in_stds": round(deviation, 4), "correlation": round(correlation, 6)}


def measure_scoring(
    ours: work.Ours, folders: dict[str, Path], prompts: int, turns: int, scratch: Path
) -> dict[str, Any]:
    """Time the panel, one reward model of ours, TRL's seven and one of TRL's on the same batch."""
    limit = ours.settings.completions.max_new_tokens
    batch, first = work.mixed_batch(ours.tokenizer, prompts, limit), HARM_CATEGORIES[0]
    panel, single = work.load_panel(ours, folders), work.load_panel(ours, {first: folders[first]})
    tokenizer = trl_reward.load_tokenizer(ours.settings)
    models = list(trl_reward.load_reward_models(ours.settings, tokenizer, folders).values())
    seven = trl_reward.grpo_scorer(models, tokenizer, ours.settings, scratch)
    one = trl_reward.grpo_scorer(models[:1], tokenizer, ours.settings, scratch)
    agreement = check_same_rewards(panel, seven, work.mixed_batch(ours.tokenizer, 2, limit))
    sides: dict[str, Callable[[], object]] = {
        "panel": lambda: panel.score(batch.categories, batch.prompts, batch.answers),
        "single": lambda: single.score([first] * len(batch.prompts), batch.prompts, batch.answers),
        "trl_seven": lambda: seven(batch.prompts, batch.answers),
        "trl_single": lambda: one(batch.prompts, batch.answers),
    }
    seconds = in_turns(sides, turns)
    count = len(batch.answers)
    return {
        "completions": count,
        "agreement": agreement,
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "completions_per_second": {name: round(count / median(values), 1) for name, values in seconds.items()},
        "trl_seven_to_panel": ratio(seconds["trl_seven"], seconds["panel"]),
        "panel_to_single": ratio(seconds["panel"], seconds["single"]),
        "trl_single_to_panel": ratio(seconds["trl_single"], seconds["panel"]),
        "needed_gflop": round(work.scoring_gflop(ours, batch), 1),
    }


def measure_training(ours: work.Ours, rows: int, turns: int, scratch: Path) -> dict[str, Any]:
    """Time seven reward models of ours, side by side and together, one on all their rows, and seven runs of TRL."""
    settings = ours.settings
    pairs = work.training_pairs(ours.tokenizer, rows, settings.completions.max_new_tokens)
    union = [pair for category in HARM_CATEGORIES for pair in pairs[category]]
    tokenizer = trl_reward.load_tokenizer(settings)
    base = trl_reward.load_base(settings, tokenizer)
    stepped = work.trained_rows(settings, rows)

    def trl_seven(use: work.Pairs) -> list[float]:
        return [
            trl_reward.train_reward_model(share_weights(base), tokenizer, p, settings, scratch) for p in use.values()
        ]

    few = {category: pairs[category][: settings.reward.prompts_per_step] for category in HARM_CATEGORIES[:1]}
    work.train_seven(ours, few)  # what is done once per process is on no clock
    trl_seven(few)
    losses: dict[str, list[float]] = {}
    sides: dict[str, Callable[[], object]] = {
        "seven": lambda: losses.update(seven=work.train_seven(ours, pairs)),
        "joint": lambda: losses.update(joint=work.train_jointly(ours, pairs)),
        "union": lambda: losses.update(union=[work.train_one(ours, "union", union)]),
        "trl_seven": lambda: losses.update(trl_seven=trl_seven({c: p[:stepped] for c, p in pairs.items()})),
    }
    seconds = in_turns(sides, turns)
    return {
        "rows_per_category": rows,
        "trained_rows_per_category": stepped,
        "epochs": settings.reward.epochs,
        "rows_per_step": settings.reward.prompts_per_step,
        "mean_losses": {name: [round(value, 4) for value in values] for name, values in losses.items()},
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "seven_to_union": ratio(seconds["seven"], seconds["union"]),
        "joint_to_union": ratio(seconds["joint"], seconds["union"]),
        "trl_seven_to_seven": ratio(seconds["trl_seven"], seconds["seven"]),
        "needed_gflop": round(work.training_gflop(ours, pairs), 1),
    }


def measure_resident(folder: Path, prompts: int, settings: Settings) -> dict[str, Any]:
    """Load and score in processes of their own, one per side; returns megabytes that stay and the most there were."""
    sides = ("panel", "single", "trl_seven", "trl_single")
    limit = str(settings.completions.max_new_tokens)
    command = [sys.executable, __file__, "--device", settings.models.device, "--answer-tokens", limit]
    command += ["--prompts", str(prompts), "--adapters", str(folder), "--resident"]
    return {side: json.loads(subprocess.check_output([*command, side])) for side in sides}


def resident(side: str, folder: Path, prompts: int, settings: Settings) -> dict[str, int]:
    """Load a side, score a batch, and say how large the process is. TRL's models are called without TRL's import."""
    names = HARM_CATEGORIES if side in ("panel", "trl_seven") else HARM_CATEGORIES[:1]
    folders = {name: folder / name for name in names}
    tokenizer = load_tokenizer(settings.models.policy, settings.models.policy_revision)
    batch = work.mixed_batch(tokenizer, prompts, settings.completions.max_new_tokens)
    sizes = {"before_loading_mb": status_mb("VmRSS")}
    held: object  # keeps the models until the process is measured
    if side.startswith("trl"):
        held = trl_reward.load_and_score(settings, folders, batch.prompts, batch.answers)
    else:
        held = panel = work.load_panel(work.load_ours(settings), folders)
        routes = [category if category in folders else names[0] for category in batch.categories]
        panel.score(routes, batch.prompts, batch.answers)
    give_back_memory()
    sizes |= {"resident_mb": status_mb("VmRSS"), "peak_resident_mb": status_mb("VmHWM")}
    if settings.models.device != "cpu":
        sizes["device_mb"] = torch.cuda.memory_allocated() // 10**6
    del held
    return sizes


def targets(scoring: dict[str, Any], training: dict[str, Any], memory: dict[str, Any]) -> list[dict[str, Any]]:
    """Hold the medians against what is claimed."""
    grown = memory["panel"]["resident_mb"] / memory["single"]["resident_mb"]
    return [
        target("scoring: TRL's seven / panel", scoring["trl_seven_to_panel"]["median"], at_least=6),
        target("scoring: panel / one of ours", scoring["panel_to_single"]["median"], at_most=1.15),
        target("memory: panel / one of ours", grown, at_most=1.1),
        target("training: seven side by side / one on all rows", training["seven_to_union"]["median"], at_most=1.0),
        target("training: TRL's seven / seven", training["trl_seven_to_seven"]["median"], at_least=2),
    ]


def measure(options: argparse.Namespace, settings: Settings, scratch: Path) -> dict[str, Any]:
    """Measure all of it."""
    dtype = getattr(torch, settings.models.number_format)
    peaks = [peak_gflops(settings.models.device, dtype)]
    ours = work.load_ours(settings)
    folders = work.save_adapters(ours, scratch / "adapters")
    memory = measure_resident(scratch / "adapters", options.prompts, settings)
    scoring = measure_scoring(ours, folders, options.prompts, options.turns, scratch)
    training = measure_training(ours, options.rows, options.turns, scratch)
    peaks.append(peak_gflops(settings.models.device, dtype))
    share = {
        "scoring": scoring["needed_gflop"] / scoring["seconds"]["panel"]["median"] / max(peaks),
        "training": training["needed_gflop"] / training["seconds"]["seven"]["median"] / max(peaks),
    }
    return {
        **machine_facts(settings.models.device),
        "models": settings.models.model_dump(mode="json", include={"policy", "dtype", "device"}),
        "reward": settings.reward.model_dump(mode="json") | {"answer_tokens": settings.completions.max_new_tokens},
        "turns": options.turns,
        "scoring": scoring,
        "training": training,
        "memory": memory,
        "peak_gflops": round(max(peaks), 1),
        "share_of_peak": {name: round(value, 3) for name, value in share.items()},
        "targets": targets(scoring, training, memory),
    }


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu, or cuda where there is one")
    parser.add_argument("--turns", type=int, default=3, help="how often every side is timed")
    parser.add_argument("--prompts", type=int, default=8, help="prompts per category to score")
    parser.add_argument("--rows", type=int, default=60, help="pairs per category to train on")
    parser.add_argument("--answer-tokens", type=int, default=16, help="where answers are cut")
    parser.add_argument("--quick", action="store_true", help="two turns on little; nothing is written")
    parser.add_argument("--resident", help=argparse.SUPPRESS)
    parser.add_argument("--adapters", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.turns, options.prompts, options.rows = 2, 4, 12
    overrides = {"models.device": options.device, "completions.max_new_tokens": options.answer_tokens}
    settings = load_settings("laptop", overrides)
    if options.resident:
        print(json.dumps(resident(options.resident, options.adapters, options.prompts, settings)))
        return
    with tempfile.TemporaryDirectory(prefix="dr-irl-benchmark-") as scratch:
        results = measure(options, settings, Path(scratch))
    if not options.quick:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
