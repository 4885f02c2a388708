"""Dynamic reward scaling of one batch: the factors of every prompt, and what they were computed from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dr_irl.categories import BENIGN
from dr_irl.scaling.combine import bound_factors, combine_factors
from dr_irl.scaling.hardness import data_hardness
from dr_irl.scaling.options import ScalingRule
from dr_irl.scaling.responsiveness import responsiveness, rows_of, update_mean_gaps


@dataclass(frozen=True, slots=True)
class Factors:
    """aD, aM and a of every prompt of a batch. Benign prompts have 1: the guard is not part of the method."""

    data: Float[Tensor, " prompts"]
    model: Float[Tensor, " prompts"]
    alpha: Float[Tensor, " prompts"]
    kept: Bool[Tensor, "prompts group"]
    """True where the gap counted in its category's aM."""
    mean_gaps: dict[str, float]
    """The state for the next batch: moving average of m_j per category."""


def scale_factors(
    rule: ScalingRule,
    categories: Sequence[str],
    distances: tuple[Float[Tensor, " prompts"], Float[Tensor, " prompts"]],
    gaps: Float[Tensor, "prompts group"],
    mean_gaps: Mapping[str, float],
) -> Factors:
    """Compute the factors of one batch.

    Args:
        rule: the options.
        categories: category of each prompt.
        distances: mean_k d_ik of each prompt, and the mean of d over its category.
        gaps: g_ik.
        mean_gaps: moving average of m_j from past batches; used by `reference: ema`.
    """
    data = data_hardness(*distances, kappa=rule.kappa)
    model = torch.ones_like(data)
    kept = torch.ones_like(gaps, dtype=torch.bool)
    seen: dict[str, float] = {}
    for category in sorted(set(categories) - {BENIGN}):
        rows = rows_of(categories, category)
        reference = mean_gaps.get(category) if rule.reference == "ema" else None
        found = responsiveness(gaps[rows], reference=reference, tau=rule.tau)
        model[rows], kept[rows], seen[category] = found.factor, found.kept, found.mean_gap
    harmful = [row for row, name in enumerate(categories) if name != BENIGN]
    alpha = torch.ones_like(data)
    combined = combine_factors(data[harmful], model[harmful], how=rule.combine, weight=rule.sum_weight)
    alpha[harmful] = bound_factors(combined, clip=rule.clip, rescale=rule.rescale)
    data[rows_of(categories, BENIGN)] = 1.0
    return Factors(data, model, alpha, kept, update_mean_gaps(mean_gaps, seen, decay=rule.ema_decay))
