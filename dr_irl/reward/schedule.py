"""Which rows a reward model sees at which step, drawn before the first one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

_BATCHES_PER_WINDOW = 4
"""Rows are sorted by length within a window of so many batches: little padding, and batches that still differ."""


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step."""

    round: int
    rows: Sequence[int]
    ends_epoch: bool


def schedule_steps(
    rows: Sequence[int],
    lengths: Sequence[int],
    *,
    rounds: int,
    epochs: int,
    per_step: int,
    generator: torch.Generator,
) -> list[Step]:
    """Shuffle the rows anew for every epoch, and put rows of like length together.

    Args:
        rows: which rows to train on.
        lengths: length in tokens of every row there is.
        rounds: rounds of inverse RL.
        epochs: passes over the rows in each round.
        per_step: rows in one step; an epoch's last step may have fewer.
        generator: shuffles.
    """
    steps: list[Step] = []
    for number in range(rounds):
        for _ in range(epochs):
            batches = _batches(rows, lengths, per_step, generator)
            steps += [Step(number, batch, ends_epoch=batch is batches[-1]) for batch in batches]
    return steps


def _batches(rows: Sequence[int], lengths: Sequence[int], per_step: int, generator: torch.Generator) -> list[list[int]]:
    shuffled = [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]
    window = per_step * _BATCHES_PER_WINDOW
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), window):
        alike = sorted(shuffled[start : start + window], key=lambda row: -lengths[row])
        batches += [alike[at : at + per_step] for at in range(0, len(alike), per_step)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
