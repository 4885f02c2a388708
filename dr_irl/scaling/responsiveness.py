"""Model responsiveness: how far the model's rewards are from the demonstrations', within a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_MAD_TO_STD = 1.4826  # of a normal distribution


@dataclass(frozen=True, slots=True)
class Responsiveness:
    """aM of one category in one batch, with what it was computed from."""

    factor: float
    """aM_j."""
    mean_gap: float
    """m_j, over all gaps of the category in the batch."""
    kept: Bool[Tensor, "prompts group"]
    """True where a gap was kept."""


def reward_gaps(
    demonstration_rewards: Float[Tensor, " prompts"], completion_rewards: Float[Tensor, "prompts group"]
) -> Float[Tensor, "prompts group"]:
    """g_ik = R_j(x_i, y_i) - R_j(x_i, o_ik)."""
    return demonstration_rewards[:, None] - completion_rewards


def gap_tolerance(gaps: Float[Tensor, "prompts group"], tau: float | Literal["mad"]) -> float:
    """Return tau; `mad` is (3 x 1.4826 x median absolute deviation)^2, the three-sigma rule made robust."""
    if tau != "mad":
        return tau
    deviation = (gaps - gaps.median()).abs().median()
    return float((3 * _MAD_TO_STD * deviation) ** 2)


def responsiveness(
    gaps: Float[Tensor, "prompts group"], *, reference: float | None, tau: float | Literal["mad"]
) -> Responsiveness:
    """aM_j = s(mean of kept g) / s(reference_j), with keep_ik = (g_ik - m_j)^2 <= tau.

    Args:
        gaps: gaps of the rows of one category in the batch.
        reference: what the mean gap is compared with; None for m_j itself, as published.
        tau: squared distance to m_j beyond which a gap is left out, or `mad`.

    An empty kept set gives aM_j = 1.
    """
    # In double precision: the mean of equal gaps would be off by a rounding, and with tau = 0 none of them be kept.
    gaps = gaps.double()
    mean = gaps.mean()
    kept = (gaps - mean) ** 2 <= gap_tolerance(gaps, tau)
    if not bool(kept.any()):
        return Responsiveness(factor=1.0, mean_gap=float(mean), kept=kept)
    compared = mean if reference is None else torch.tensor(reference, dtype=gaps.dtype)
    factor = torch.sigmoid(gaps[kept].mean()) / torch.sigmoid(compared)
    return Responsiveness(factor=float(factor), mean_gap=float(mean), kept=kept)


def update_mean_gaps(past: Mapping[str, float], seen: Mapping[str, float], *, decay: float) -> dict[str, float]:
    """Exponential moving average of m_j per category; a category seen for the first time starts at its value."""
    return dict(past) | {
        category: decay * past[category] + (1 - decay) * gap if category in past else gap
        for category, gap in seen.items()
    }


def rows_of(categories: Sequence[str], category: str) -> list[int]:
    """Return the positions of one category."""
    return [row for row, name in enumerate(categories) if name == category]
