"""Does the scaling help? GRPO of profile laptop with each form of it, from one warm start; writes results/scaling.json.

    for seed in 0 1 2 3 4; do
        dr-irl run --profile laptop --set seed=$seed --store STORES/seed-$seed
    done
    python benchmarks/scaling.py --stores STORES/seed-*

Every arm of a seed starts from the same warm start, with the same reward models, prompts and random numbers, and
samples the same number of completions. After 5, 10 and 15 steps it answers all held-out prompts greedily. What is
kept is which prompts it refused, so that arms are compared on the same prompts: the difference of two arms is taken
per prompt, averaged over the seeds, and its 95 % interval is Student's over the prompts. That says nothing of other
seeds: `between_seeds` does, from what is left of the rates once every arm and every seed has its own level. Arms
measured before with the same settings are kept; results are written after every arm. Seeds may differ in number
format, for machines differ in which is fast; the arms of one seed may not.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import torch
from scipy.stats import f as f_distribution
from scipy.stats import t as student_t

from dr_irl.alignment import Alignment
from dr_irl.artifacts import Store
from dr_irl.config import Settings
from dr_irl.evaluation.judges import JUDGES
from dr_irl.evaluation.prompts import evaluation_prompts
from dr_irl.evaluation.run import answer_prompts, perplexity
from dr_irl.evaluation.suites import HARMFUL, ORDINARY, suites
from dr_irl.language.adapters import merge_adapter_into, share_weights
from dr_irl.language.sampling import CachedPrefixSampler
from dr_irl.progress import SilentProgress
from dr_irl.records import Example, ScalingRecord
from dr_irl.results.statistics import paired_difference
from dr_irl.reward.panel import RewardPanel
from dr_irl.seeding import numpy_generator
from dr_irl.snapshot import Snapshot
from flows.record import load_run
from tasks.alignment import own_distances, starting_policy, training_prompts
from tasks.contents import read_examples
from tasks.job import Inputs, Job
from tasks.models import base_policy
from tasks.reward import panel_folders

RESULTS = Path(__file__).parent / "results" / "scaling.json"
MILESTONES = (5, 10, 15)
FULL = {"combine": "product", "reference": "ema"}
ARMS: Mapping[str, dict[str, dict[str, Any]]] = {
    "one model": {"grpo": {"reward_models": "single"}, "scaling": {"combine": "none"}},
    "seven models": {"scaling": {"combine": "none"}},
    "data": {"scaling": {"combine": "data"}},
    "model, batch": {"scaling": {"combine": "model", "reference": "batch"}},
    "model, ema": {"scaling": {"combine": "model", "reference": "ema"}},
    "both, batch": {"scaling": {"combine": "product", "reference": "batch"}},
    "both, ema": {"scaling": FULL},
    "both, ema, kappa 4": {"scaling": FULL | {"kappa": 4.0}},
    "both, ema, kappa 8": {"scaling": FULL | {"kappa": 8.0}},
    "both, ema, kappa 8, own completions": {"scaling": FULL | {"kappa": 8.0}, "hardness": {"source": "policy"}},
}
PAIRS = (
    ("seven models", "one model"),
    ("data", "seven models"),
    ("model, batch", "seven models"),
    ("model, ema", "seven models"),
    ("both, batch", "seven models"),
    ("both, ema", "seven models"),
    ("both, ema", "both, batch"),
    ("both, ema, kappa 4", "seven models"),
    ("both, ema, kappa 8", "seven models"),
    ("both, ema, kappa 8, own completions", "seven models"),
)


class Milestones:
    """Measures the policy where a checkpoint would be kept; keeps none."""

    def __init__(self, measure: Callable[[], dict[str, Any]]) -> None:
        """Call `measure` after each milestone."""
        self.found: dict[str, dict[str, Any]] = {}
        self._measure = measure

    def load(self) -> Snapshot | None:
        """Start at the first step."""
        return None

    def after_step(self, step: int, capture: Callable[[], Snapshot]) -> None:
        """Measure, if it is time."""
        del capture
        if step in MILESTONES:
            self.found[str(step)] = self._measure()

    def after_failure(self, capture: Callable[[], Snapshot], batch: Mapping[str, Any]) -> str:
        """Keep nothing."""
        del capture, batch
        return "nothing was kept of the batch"


def arm_settings(settings: Settings, changes: Mapping[str, Mapping[str, Any]], dtype: str) -> Settings:
    """Apply an arm's changes to the settings of a run, the study's number of steps, and the number format."""
    values = settings.model_dump()
    for section, fields in changes.items():
        values[section] |= fields
    values["grpo"]["steps"] = max(MILESTONES)
    values["models"]["dtype"] = dtype
    return Settings.model_validate(values)


def run_arm(settings: Settings, inputs: Inputs, prompts: Mapping[str, Sequence[Example]]) -> dict[str, Any]:
    """Align the warm start as the settings say, and measure it on the way."""
    base, tokenizer = base_policy(settings)
    sampled = share_weights(base)
    policy = starting_policy(base, settings, inputs)
    job = Job(settings, inputs, "", SilentProgress(), Store(inputs.store.uri).checkpoint(inputs.refs["panel"]))
    number_format = getattr(torch, settings.models.number_format)
    loop = Alignment(
        policy,
        tokenizer,
        RewardPanel.assemble(panel_folders(job), device=settings.models.device, dtype=number_format),
        settings.grpo,
        settings.scaling,
        max_tokens=settings.completions.max_new_tokens,
        seed=settings.seed,
        distances=own_distances(settings),
    )
    tokens = 0

    def count(produced: int) -> None:
        nonlocal tokens
        tokens += produced

    def sampler(temperature: float, limit: int, report: Callable[[int], object]) -> CachedPrefixSampler:
        return CachedPrefixSampler(
            sampled, tokenizer, max_new_tokens=limit, temperature=temperature, rows_at_once=128, report=report
        )

    def measure() -> dict[str, Any]:
        merge_adapter_into(sampled, policy)
        answers = answer_prompts(
            sampler(0.0, settings.evaluation.max_new_tokens, lambda _: None), prompts, JUDGES[settings.judge]
        )
        refused = {suite: "" for suite in dict.fromkeys(a.suite for a in answers)}
        for answer in answers:
            refused[answer.suite] += {True: "1", False: "0", None: "?"}[answer.refused]
        return {"refused": refused, "perplexity": perplexity(sampled, tokenizer, prompts[ORDINARY])}

    milestones, start = Milestones(measure), time.monotonic()
    state = loop.run(
        training_prompts(inputs),
        sampler(settings.grpo.temperature, settings.completions.max_new_tokens, count),
        refresh_sampler=lambda: merge_adapter_into(sampled, policy),
        judge=JUDGES[settings.judge],
        report=lambda readings: print(readings, file=sys.stderr, flush=True),
        checkpoints=milestones,
    )
    return {
        "number_format": settings.models.number_format,
        "steps": milestones.found,
        "sampled_tokens": tokens,
        "seconds": round(time.monotonic() - start, 1),
        "alpha": alphas(state.scaling),
    }


def alphas(records: Sequence[ScalingRecord]) -> dict[str, float]:
    """Describe the factors of the harmful prompts."""
    values = [record.alpha for record in records if record.category != "benign"]
    return {"min": min(values), "max": max(values), "std": pstdev(values)}


def differences(runs: Mapping[str, Mapping[str, Any]], arm: str, other: str) -> dict[str, Any]:
    """Compare two arms on the seeds that have both, prompt by prompt."""
    seeds = [seed for seed, arms in runs.items() if arm in arms and other in arms]
    found: dict[str, Any] = {"arm": arm, "other": other, "seeds": seeds}
    for step in map(str, MILESTONES):
        for suite in (HARMFUL, ORDINARY):
            flags = [
                [[flag == "1" for flag in runs[seed][each]["steps"][step]["refused"][suite]] for seed in seeds]
                for each in (arm, other)
            ]
            estimate = paired_difference(*flags)
            found[f"{suite} after {step}"] = {
                name: round(100 * value, 2)
                for name, value in (("points", estimate.value), ("low", estimate.low), ("high", estimate.high))
            }
    return found


def between_seeds(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Say how far the difference of two arms may be from that of more seeds, over the seeds that have every arm.

    A rate is an arm's level plus a seed's level plus noise (a two-way layout without interaction), which has
    (arms - 1) (seeds - 1) degrees of freedom. The 95 % interval of a difference of two arms is +- `half_width`; all
    others may be compared with one arm at once by +- `half_width_of_all` (Bonferroni). `p_arms_alike` is the F test's.
    """
    complete = [arms for arms in runs.values() if set(ARMS) <= set(arms)]
    if len(complete) < 2:
        return {}
    found: dict[str, Any] = {"seeds": len(complete)}
    freedom = (len(ARMS) - 1) * (len(complete) - 1)
    for step in map(str, MILESTONES):
        for suite in (HARMFUL, ORDINARY):
            rates = 100 * np.array(
                [[share(arms[arm]["steps"][step]["refused"][suite]) for arm in ARMS] for arms in complete]
            )
            noise = rates - rates.mean(axis=0) - rates.mean(axis=1, keepdims=True) + rates.mean()
            deviation = float(np.sqrt((noise**2).sum() / freedom))
            error = deviation * (2 / len(complete)) ** 0.5
            ratio = len(complete) * float(rates.mean(axis=0).var(ddof=1)) / deviation**2
            found[f"{suite} after {step}"] = {
                "deviation": round(deviation, 2),
                "half_width": round(error * float(student_t.ppf(0.975, freedom)), 2),
                "half_width_of_all": round(error * float(student_t.ppf(1 - 0.025 / (len(ARMS) - 1), freedom)), 2),
                "p_arms_alike": round(float(f_distribution.sf(ratio, len(ARMS) - 1, freedom)), 3),
            }
    return found


def shares(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Average what was refused, per arm, milestone and suite, over the seeds that have the arm."""
    table: dict[str, Any] = {}
    for arm in ARMS:
        found = [arms[arm] for arms in runs.values() if arm in arms]
        for step in map(str, MILESTONES) if found else ():
            results = [run["steps"][step] for run in found]
            row = {s: round(100 * fmean(share(r["refused"][s]) for r in results), 1) for s in results[0]["refused"]}
            row |= {"perplexity": round(fmean(r["perplexity"] for r in results), 2), "seeds": len(found)}
            table.setdefault(arm, {})[step] = row
    return table


def share(flags: str) -> float:
    """Return the share of prompts that were refused, among those that were scored."""
    return flags.count("1") / max(1, len(flags) - flags.count("?"))


def write(settings: dict[str, Any], runs: dict[str, Any]) -> None:
    """Write everything that was measured so far."""
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "settings": settings,
        "arms": ARMS,
        "percent_refused": shares(runs),
        "differences": [differences(runs, *pair) for pair in PAIRS if any(set(pair) <= set(a) for a in runs.values())],
        "between_seeds": between_seeds(runs),
        "runs": runs,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    """Run the arms that are missing, seed by seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--stores", nargs="+", required=True, help="stores of finished runs of laptop, one per seed")
    parser.add_argument("--dtype", default="auto", help="number format of policy and reward models in GRPO")
    parser.add_argument("--threads", type=int, help="as many as the run had, by default")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    options = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for uri in options.stores:
        store = Store(uri)
        record = load_run(store, "latest")
        torch.set_num_threads(options.threads or record.settings.threads)
        inputs = Inputs(store, record.artifacts | {"start": record.artifacts["warm-start"]})  # as the DAG calls it
        prompts = evaluation_prompts(
            read_examples(inputs.folder("balance"), "heldout"),
            suites(),
            per_category=1000,
            per_suite=1000,
            generator=numpy_generator(record.settings.seed, "evaluation prompts"),
        )
        kept = {"profile", "seed", "threads", "evaluation"}
        settings = json.loads(record.settings.model_dump_json(exclude=kept))
        settings["grpo"].pop("steps")
        settings["models"].pop("dtype")
        if known.get("settings") != settings:
            known = {"settings": settings, "runs": {}}
        runs = known["runs"].setdefault(str(record.settings.seed), {})
        for arm in options.arms:
            if arm in runs:
                continue
            print(f"seed {record.settings.seed}: {arm}", file=sys.stderr, flush=True)
            changed = arm_settings(record.settings, ARMS[arm], options.dtype)
            if other := {run["number_format"] for run in runs.values()} - {changed.models.number_format}:
                raise SystemExit(
                    f"seed {record.settings.seed} was measured in {other.pop()}; say --dtype, or drop its arms"
                )
            runs[arm] = run_arm(changed, inputs, prompts)
            write(settings, known["runs"])


if __name__ == "__main__":
    main()
