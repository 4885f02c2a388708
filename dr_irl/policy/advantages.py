"""Group-relative advantages, scaled per prompt."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dr_irl.policy.options import Spread

_EPSILON = 1e-4


def zero_variance(rewards: Float[Tensor, "prompts group"], *, tolerance: float) -> Bool[Tensor, " prompts"]:
    """Tell which groups have rewards that are all equal within `tolerance`."""
    return rewards.amax(dim=1) - rewards.amin(dim=1) <= tolerance


def group_advantages(
    rewards: Float[Tensor, "prompts group"],
    alpha: Float[Tensor, " prompts"],
    *,
    tolerance: float,
    spread: Spread = "group",
) -> Float[Tensor, "prompts group"]:
    """A_ik = a_i (R_ik - mean_k R_ik) / (std R + eps); zero where a group's rewards are all equal.

    The factor is one number per prompt, so a group's advantages still sum to zero.

    Args:
        rewards: R_ik.
        alpha: a_i.
        tolerance: rewards of a group that lie within it count as equal.
        spread: `group` divides by std_k R_ik, as published, which makes a group whose answers are all alike count as
            much as one that holds a refusal and an answer; `batch` divides by the root mean square of all centred
            rewards, which leaves groups their weight; `none` divides by nothing (arXiv 2503.20783).
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    match spread:
        case "group":
            divisor = rewards.std(dim=1, keepdim=True) + _EPSILON
        case "batch":
            divisor = centred.square().mean().sqrt() + _EPSILON
        case "none":
            divisor = torch.ones((), dtype=rewards.dtype)
    scaled = alpha[:, None] * centred / divisor
    return scaled.masked_fill(zero_variance(rewards, tolerance=tolerance)[:, None], 0.0)
