"""The speed and memory of a GRPO step beside TRL's, measured on this machine; writes results/grpo.json.

    pip install -c constraints.txt -e '.[bench]'
    python benchmarks/grpo.py             # --quick for a first look, --only for a part, --device cuda for a GPU

Claims, on the model of profile laptop, with its LoRA, its mix of prompts and its KL penalty:

- A step takes half the time of a step of TRL's `GRPOTrainer` at most, for many short and for few longer completions.
- Dynamic scaling is at most 3 % of a step: the gaps, with the scoring of the demonstrations that they need; clauses
  and embeddings of the policy's own completions (`hardness.source: policy`); the factors, and the advantages.
- A process that takes a step is at its largest no larger than TRL's.
- Data hardness is measured at least ten times as fast as pair by pair (hardness_work.py).

Equal on both sides: prompts, token for token; how many completions, and how long, because neither has an end token to
sample; temperature; the number format of weights (the machine's fastest) and of LoRA (float32); its initial weights;
one optimiser step. Before a clock starts both learn from the same completions with the same advantages, in float32 and
in bfloat16: loss and gradient must agree.
Not equal, to our disadvantage: ours has seven reward models, the guard's and a text encoder, and scores demonstrations;
TRL has one reward model and no scaling. Reward models are untrained, which changes no time. TRL runs without gradient
checkpointing; a pass of either side holds about as many tokens. Sides take turns, after one that is on no clock, and
TRL's clock runs from the beginning of its step to the end, without what its `train` sets up around that.

The share of the machine's peak counts what cannot be left out, as reward.py does: 2 x matrix weights x tokens forwards,
each prompt once per step, repeated preambles, padding, embeddings, attention's own products and the text encoder left
out; logits where a token is predicted. Learning runs the frozen lower layers once, the upper ones forwards for policy
and reference and backwards for the gradients of states down to the lowest adapted layer, and of the adapters' weights.
`seconds_at_peak` is how long that would take at the best rate of a product of 2048 x 2048 matrices in that format.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import grpo_work as work
import reward_work
import torch
import trl_grpo
from timing import in_turns, machine_facts, peak_gflops, ratio, spread, status_mb, target

from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.config import Settings
from dr_irl.language.number_format import fastest_number_format

RESULTS = Path(__file__).parent / "results" / "grpo.json"
SHAPES = {
    "cpu": (work.Shape(32, 4, 16), work.Shape(8, 4, 40)),
    "cuda": (work.Shape(32, 4, 16), work.Shape(32, 8, 128)),
}
"""On a CPU what profile laptop samples, and fewer but longer completions; on a GPU also what fills it better."""
QUICK_SHAPE = work.Shape(8, 4, 8)
PAIRS, QUICK_PAIRS = 100_000, 1_000
"""Completions whose hardness is measured, each with its demonstration."""
CHECKED_PROMPTS = 2
"""Prompts that both sides learn from before a clock starts."""
SIDES = ("native", "trl")


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured, and how often."""

    model: str
    device: str
    turns: int
    shapes: Sequence[work.Shape]
    scratch: Path
    pairs: int = 0
    dtype: str | None = None
    """Of the frozen weights; None: what the device is fastest in."""

    def load_native(self, shape: work.Shape) -> work.Native:
        """Load our side."""
        return work.load_native(self.settings(shape), self.reward_models(shape))

    def load_trl(self, shape: work.Shape) -> trl_grpo.Trl:
        """Load TRL's side."""
        settings, reward_model = self.settings(shape), self.reward_models(shape)[HARM_CATEGORIES[0]]
        return trl_grpo.load_trl(settings, work.step_prompts(settings), reward_model, self.scratch / "trl")

    def settings(self, shape: work.Shape) -> Settings:
        """Return the settings of a step."""
        return work.shape_settings(shape, self.model, self.device, self.number_format)

    def reward_models(self, shape: work.Shape) -> dict[str, Path]:
        """Return the folders of the reward models that score completions of that length; made on first use."""
        return work.save_reward_models(
            self.settings(shape), self.scratch / f"rewards-{shape.tokens}-{self.number_format}"
        )

    @property
    def number_format(self) -> str:
        """What the frozen weights are held in."""
        return self.dtype or fastest_number_format(self.device)


def measure_steps(bench: Bench) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """See that both sides learn the same, then time a step of both, for every shape."""
    peak = peak_gflops(bench.device, getattr(torch, bench.number_format))
    small = replace(bench.shapes[-1], prompts=CHECKED_PROMPTS)
    agreement = {dtype: compare_learning(replace(bench, dtype=dtype), small) for dtype in trl_grpo.TOLERANCES}
    found = {str(shape): measure_step(bench, shape, peak) for shape in bench.shapes}
    claims = [
        target(f"step: ours / TRL's, {shape}", f["native_to_trl"]["median"], at_most=0.5) for shape, f in found.items()
    ]
    return {"peak_gflops": round(peak, 1), "agreement": agreement, **found}, claims


def compare_learning(bench: Bench, shape: work.Shape) -> dict[str, float]:
    """Compare what fresh policies of both sides learn from the same completions."""
    return trl_grpo.compare_learning(bench.load_native(shape), bench.load_trl(shape))


def measure_step(bench: Bench, shape: work.Shape, peak: float) -> dict[str, Any]:
    """Time a step of both sides."""
    native, trl = bench.load_native(shape), bench.load_trl(shape)
    trl_grpo.check_prompts(native, trl)
    parts: list[dict[str, float]] = []
    sides: dict[str, Callable[[], object]] = {"native": lambda: parts.append(native.step()), "trl": trl.step}
    in_turns(sides, 1)
    for seen in (parts, native.sampled_tokens, trl.clock.seconds, trl.clock.shortest):
        seen.clear()
    seconds = {"native": in_turns(sides, bench.turns)["native"], "trl": trl.clock.seconds}
    tokens = shape.completions * shape.tokens
    check_tokens(shape, native.sampled_tokens, trl.clock.shortest)
    return {
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "sampled_tokens_per_second": {name: round(tokens / median(values), 1) for name, values in seconds.items()},
        "native_to_trl": ratio(seconds["native"], seconds["trl"]),
        "native_parts": {name: spread([part[name] for part in parts]) for name in parts[0]},
        "roofline": roofline(work.needed_gflop(native), parts, peak),
    }


def check_tokens(shape: work.Shape, sampled: Sequence[int], shortest: Sequence[int]) -> None:
    """Compare what both sides sampled in every step with what was asked for.

    Raises:
        SystemExit: one of them sampled less.
    """
    wanted = shape.completions * shape.tokens
    if set(sampled) != {wanted} or set(shortest) != {shape.tokens}:
        raise SystemExit(
            f"ours sampled {sampled} tokens in a step instead of {wanted}, TRL's shortest completions have {shortest} "
            f"instead of {shape.tokens}: not equal work"
        )


def roofline(needed: Mapping[str, float], parts: Sequence[Mapping[str, float]], peak: float) -> dict[str, Any]:
    """Hold the arithmetic that a step needs against the time that it took, part by part and as a whole."""
    took = {name: median(part[name] for part in parts) for name in needed}
    took["whole"] = median(sum(part.values()) for part in parts)
    return {
        name: {
            "needed_gflop": round(gflop, 1),
            "seconds_at_peak": round(gflop / peak, 3),
            "share_of_peak": round(gflop / took[name] / peak, 3),
        }
        for name, gflop in {**needed, "whole": sum(needed.values())}.items()
    }


def measure_scaling(bench: Bench) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure what share of a step dynamic scaling is, for every shape."""
    found = {str(shape): scaling_share(bench, shape) for shape in bench.shapes}
    claims = [
        target(f"scaling / step, {shape}", share["share"]["median"], at_most=0.03) for shape, share in found.items()
    ]
    return found, claims


def scaling_share(bench: Bench, shape: work.Shape) -> dict[str, Any]:
    """Add to the time of scaling the share of scoring that goes to the demonstrations, and hold it against the step."""
    native = bench.load_native(shape)
    parts: list[dict[str, float]] = []
    in_turns({"native": native.step}, 1)
    in_turns({"native": lambda: parts.append(native.step())}, bench.turns)
    completions = [
        (prompt.category, prompt.text, text)
        for prompt, texts in zip(native.prompts, native.sample_texts(), strict=True)
        for text in texts
    ]
    scaled = [prompt for prompt in native.prompts if prompt.category != BENIGN]
    demonstrations = [(prompt.category, prompt.text, prompt.demonstration) for prompt in scaled]
    rows = {"without": completions, "with": completions + demonstrations}
    columns = {name: [list(column) for column in zip(*r, strict=True)] for name, r in rows.items()}
    sides = {name: lambda c=c: native.panel.score(*c) for name, c in columns.items()}
    in_turns(sides, 1)
    seconds = in_turns(sides, bench.turns)
    demonstrating = max(0.0, 1 - ratio(seconds["without"], seconds["with"])["median"])
    shares = [(part["scaling"] + demonstrating * part["scoring"]) / sum(part.values()) for part in parts]
    return {
        "seconds_scaling": spread([part["scaling"] for part in parts]),
        "seconds_step": spread([sum(part.values()) for part in parts]),
        "demonstrations_of_scoring": round(demonstrating, 3),
        "share": spread(shares),
    }


def measure_memory(bench: Bench) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Take a step in a process of its own, one per side and shape; returns megabytes."""
    found: dict[str, Any] = {}
    for shape in bench.shapes:
        bench.reward_models(shape)  # made here, so that neither side's process makes them
        command = [sys.executable, __file__, "--device", bench.device, "--model", bench.model]
        command += ["--shape", *map(str, (shape.prompts, shape.group, shape.tokens))]
        command += ["--scratch", str(bench.scratch), "--resident"]
        found[str(shape)] = {side: json.loads(subprocess.check_output([*command, side])) for side in SIDES}
    field = "peak_resident_mb" if bench.device == "cpu" else "peak_device_mb"
    claims = [
        target(f"memory: ours / TRL's, {shape}", sizes["native"][field] / sizes["trl"][field], at_most=1.0)
        for shape, sizes in found.items()
    ]
    return found, claims


def resident(side: str, bench: Bench) -> dict[str, int]:
    """Load a side, take a step, and say how large the process is and was at most."""
    [shape] = bench.shapes
    sizes = {"before_loading_mb": status_mb("VmRSS")}
    torch.set_num_threads(reward_work.THREADS)
    (bench.load_native(shape) if side == "native" else bench.load_trl(shape)).step()
    sizes["peak_resident_mb"] = status_mb("VmHWM")
    if bench.device != "cpu":
        sizes["peak_device_mb"] = torch.cuda.max_memory_allocated() // 10**6
    return sizes


def measure_hardness(bench: Bench) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Time data hardness beside the plain way of measuring it."""
    from hardness_work import measure_hardness

    found = measure_hardness(bench.pairs, bench.turns)
    return found, [
        target(f"hardness, {name}: pair by pair / ours", kind["ratio"]["median"], at_least=10)
        for name, kind in found.items()
    ]


MEASURES: dict[str, Callable[[Bench], tuple[dict[str, Any], list[dict[str, Any]]]]] = {
    "step": measure_steps,
    "scaling": measure_scaling,
    "memory": measure_memory,
    "hardness": measure_hardness,
}


def measure(bench: Bench, chosen: Sequence[str]) -> dict[str, Any]:
    """Measure the chosen parts, memory first: it is taken while this process is small."""
    results: dict[str, Any] = {**machine_facts(bench.device), "model": bench.model, "turns": bench.turns}
    settings = bench.settings(bench.shapes[0])
    results |= {"number_format": bench.number_format, "grpo": settings.grpo.model_dump(mode="json")}
    for name in sorted(chosen, key=lambda name: name != "memory"):
        results[name], claims = MEASURES[name](bench)
        results[name]["targets"] = claims
    return results


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu, or cuda where there is one")
    parser.add_argument("--turns", type=int, default=3, help="how often every side is timed")
    parser.add_argument("--only", choices=MEASURES, help="measure one part anew; the others stay as they were written")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of completion and demonstration, for hardness")
    parser.add_argument("--quick", action="store_true", help="one turn of a small step; nothing is written")
    parser.add_argument(
        "--model",
        help=f"a model's name, or one of {', '.join(work.RANDOM_MODELS)}, made on the spot; "
        f"by default {work.BUNDLED}, and on a GPU random-0.5b",
    )
    parser.add_argument("--resident", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and write the results."""
    options = parse_options()
    kind = "cpu" if options.device == "cpu" else "cuda"
    model = options.model or (work.BUNDLED if kind == "cpu" else "random-0.5b")
    if options.resident:
        bench = Bench(model, options.device, 1, [work.Shape(*options.shape)], options.scratch)
        print(json.dumps(resident(options.resident, bench)))
        return
    shapes, turns, pairs = (
        ([QUICK_SHAPE], 1, QUICK_PAIRS) if options.quick else (SHAPES[kind], options.turns, options.pairs)
    )
    with tempfile.TemporaryDirectory(prefix="dr-irl-benchmark-") as folder:
        scratch = Path(folder)
        named = work.save_random_model(model, scratch / "model") if model in work.RANDOM_MODELS else model
        bench = Bench(named, options.device, turns, shapes, scratch, pairs)
        results = measure(bench, [options.only] if options.only else list(MEASURES))
    results["model"] = model
    if not options.quick:
        known = json.loads(RESULTS.read_text()) if options.only and RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(known | results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
