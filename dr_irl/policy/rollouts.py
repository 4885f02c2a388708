"""Which prompts a step trains on, and the completions sampled for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dr_irl.categories import BENIGN
from dr_irl.language.sampling import Sample


@dataclass(frozen=True, slots=True)
class TrainingPrompt:
    """A prompt with its demonstration and how hard its category and itself are."""

    id: str
    text: str
    category: str
    demonstration: str
    distance: float
    """mean_k d_ik over the reference completions; 0 for benign prompts."""
    category_distance: float
    """Mean of d over the whole category."""


@dataclass(frozen=True, slots=True)
class Rollouts:
    """The completions of one step: G for each prompt, in the order of the prompts."""

    prompts: Sequence[TrainingPrompt]
    samples: Sequence[Sequence[Sample]]
    rewards: Float[Tensor, "prompts group"]
    demonstration_rewards: Float[Tensor, " prompts"]
    """R_j(x_i, y_i); NaN for benign prompts, which are not scaled."""

    @property
    def flat(self) -> list[Sample]:
        """All samples; row r belongs to prompt r // G."""
        return [sample for group in self.samples for sample in group]

    def replace_groups(self, rows: Sequence[int], others: "Rollouts") -> "Rollouts":
        """Put the groups of `others` in the place of some of these, in order; the tensors are copies."""
        place = {row: position for position, row in enumerate(rows)}
        rewards, demonstration_rewards = self.rewards.clone(), self.demonstration_rewards.clone()
        rewards[list(rows)], demonstration_rewards[list(rows)] = others.rewards, others.demonstration_rewards
        return Rollouts(
            prompts=[others.prompts[place[row]] if row in place else p for row, p in enumerate(self.prompts)],
            samples=[others.samples[place[row]] if row in place else s for row, s in enumerate(self.samples)],
            rewards=rewards,
            demonstration_rewards=demonstration_rewards,
        )


def schedule_prompts(
    categories: Sequence[str], *, steps: int, per_step: int, benign_ratio: float, generator: torch.Generator
) -> list[list[int]]:
    """Choose the prompts of every step: harm categories in turn, each shuffled anew when it is used up.

    Args:
        categories: category of each available prompt.
        steps: number of steps.
        per_step: prompts per step.
        benign_ratio: share of them that is benign, rounded to whole prompts.
        generator: shuffles.

    Returns:
        Positions in `categories`, one list per step, harmful prompts first.
    """
    benign_per_step = round(benign_ratio * per_step)
    if BENIGN not in categories:
        benign_per_step = 0
    streams = {
        name: _endless(rows, generator) for name in sorted(set(categories)) if (rows := _positions(categories, name))
    }
    harmful = [name for name in streams if name != BENIGN]
    turn = 0
    schedule: list[list[int]] = []
    for _ in range(steps):
        chosen: list[int] = []
        for _ in range(per_step - benign_per_step):
            chosen.append(next(streams[harmful[turn % len(harmful)]]))
            turn += 1
        chosen.extend(next(streams[BENIGN]) for _ in range(benign_per_step))
        schedule.append(chosen)
    return schedule


def substitutes(
    categories: Sequence[str], used: Sequence[int], replaced: Sequence[int], *, generator: torch.Generator
) -> Mapping[int, int]:
    """Draw another prompt of the same category for each of `replaced`; one for which none is left stays out.

    Args:
        categories: category of each available prompt.
        used: positions that this step has had already.
        replaced: those among them that get a substitute.
        generator: draws.

    Returns:
        Replaced position -> its substitute; no two get the same.
    """
    taken, found = set(used), dict[int, int]()
    for row in replaced:
        free = [other for other in _positions(categories, categories[row]) if other not in taken]
        draw = float(torch.rand((), generator=generator))
        if free:
            found[row] = free[int(draw * len(free))]
            taken.add(found[row])
    return found


def _positions(categories: Sequence[str], name: str) -> list[int]:
    return [row for row, category in enumerate(categories) if category == name]


def _endless(rows: list[int], generator: torch.Generator) -> Iterator[int]:
    while True:
        for position in torch.randperm(len(rows), generator=generator).tolist():
            yield rows[position]
