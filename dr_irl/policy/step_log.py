"""What the alignment loop logs of each step, as pure functions, and where the loop stands."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from dr_irl.categories import BENIGN
from dr_irl.evaluation.judges import Judge
from dr_irl.policy.advantages import zero_variance
from dr_irl.policy.rollouts import Rollouts
from dr_irl.records import ScalingRecord, StepRecord
from dr_irl.scaling.dynamic import Factors
from dr_irl.scaling.responsiveness import rows_of

_PREFIX_WORDS = 4
_HEADLINE = {
    "reward": ("all", "reward"),
    "refusal": ("all", "refusal"),
    "kl": ("all", "kl"),
    "benign_refusal": (BENIGN, "refusal"),
}


@dataclass
class LoopState:
    """What a checkpoint must hold besides the adapter and the optimiser."""

    step: int = 0
    """Steps done."""
    mean_gaps: dict[str, float] = field(default_factory=dict)
    logged: list[StepRecord] = field(default_factory=list)
    scaling: list[ScalingRecord] = field(default_factory=list)
    distances: dict[str, float] = field(default_factory=dict)
    """Prompt -> mean d of the completions that the policy gave last, where they are measured."""

    def finish_step(self, logged: list[StepRecord], scaling: list[ScalingRecord], factors: Factors) -> None:
        """Keep what one step leaves behind, and count it."""
        self.logged += logged
        self.scaling += scaling
        self.mean_gaps = factors.mean_gaps
        self.step += 1

    def to_json(self) -> dict[str, Any]:
        """Return all but the step as JSON values."""
        return {
            "mean_gaps": self.mean_gaps,
            "logged": [list(astuple(record)) for record in self.logged],
            "scaling": [list(astuple(record)) for record in self.scaling],
            "distances": self.distances,
        }

    @classmethod
    def from_json(cls, step: int, state: Mapping[str, Any]) -> "LoopState":
        """Read what `to_json` returned after `step` steps."""
        return cls(
            step=step,
            mean_gaps=dict(state["mean_gaps"]),
            logged=[StepRecord(*values) for values in state["logged"]],
            scaling=[ScalingRecord(*values) for values in state["scaling"]],
            distances=dict(state["distances"]),
        )


class Clock:
    """Measures the parts of a step."""

    def __init__(self) -> None:
        """Start the first part now."""
        self.laps: dict[str, float] = {}
        """Seconds of each part that has ended."""
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """End the part `name` and start the next; a part that comes again is added up."""
        now = time.perf_counter()
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last
        self._last = now


def step_records(
    step: int,
    rollouts: Rollouts,
    gaps: Float[Tensor, "prompts group"],
    learned: Mapping[str, float],
    judge: Judge,
    *,
    tolerance: float,
) -> list[StepRecord]:
    """Describe one step: what the update measured, then the completions of each category and of all harmful prompts.

    Args:
        step: counted from 0.
        rollouts: the completions.
        gaps: g_ik.
        learned: name -> number, of the update as a whole.
        judge: tells refusals.
        tolerance: rewards of a group that lie within it count as equal.
    """
    equal = zero_variance(rollouts.rewards, tolerance=tolerance).float()
    categories = [prompt.category for prompt in rollouts.prompts]
    harmful = [row for row, name in enumerate(categories) if name != BENIGN]
    scopes = {name: rows_of(categories, name) for name in sorted(set(categories))} | {"all": harmful}
    records = [StepRecord(step=step, name=name, category="all", value=value) for name, value in learned.items()]
    for scope, rows in scopes.items():
        readings = {
            "reward": float(rollouts.rewards[rows].mean()),
            **({} if scope == BENIGN else {"gap": float(gaps[rows].mean())}),
            **_completion_readings(rollouts, rows, judge),
            "zero_variance": float(equal[rows].mean()),
        }
        records += [StepRecord(step=step, name=name, category=scope, value=value) for name, value in readings.items()]
    return records


def scaling_records(
    step: int, rollouts: Rollouts, gaps: Float[Tensor, "prompts group"], factors: Factors
) -> list[ScalingRecord]:
    """Describe what scaled each prompt of one step, and what it was computed from; `gaps` are g_ik."""
    return [
        ScalingRecord(
            step=step,
            prompt_id=prompt.id,
            category=prompt.category,
            data=float(factors.data[row]),
            model=float(factors.model[row]),
            alpha=float(factors.alpha[row]),
            gap=float(gaps[row].mean()),
            kept=float(factors.kept[row].float().mean()),
            reward_mean=float(rollouts.rewards[row].mean()),
            reward_std=float(rollouts.rewards[row].std()),
        )
        for row, prompt in enumerate(rollouts.prompts)
    ]


def headline(records: Sequence[StepRecord]) -> dict[str, float]:
    """Pick the numbers worth showing while training runs, from the records of one step."""
    found = {(record.category, record.name): record.value for record in records}
    return {name: found[key] for name, key in _HEADLINE.items() if key in found}


def _completion_readings(rollouts: Rollouts, rows: Sequence[int], judge: Judge) -> dict[str, float]:
    samples = [sample for row in rows for sample in rollouts.samples[row]]
    refused = [judge(rollouts.prompts[row].text, sample.answer) for row in rows for sample in rollouts.samples[row]]
    openings = Counter(" ".join(sample.answer.lower().split()[:_PREFIX_WORDS]) for sample in samples)
    return {
        "refusal": sum(map(bool, refused)) / len(samples),
        "length_tokens": sum(len(sample.token_ids) for sample in samples) / len(samples),
        "truncated": sum(sample.truncated for sample in samples) / len(samples),
        "commonest_prefix": openings.most_common(1)[0][1] / len(samples),
    }
