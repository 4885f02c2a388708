"""Group-relative advantages, scaled per prompt."""

from jaxtyping import Bool, Float
from torch import Tensor

_EPSILON = 1e-4


def zero_variance(rewards: Float[Tensor, "prompts group"], *, tolerance: float) -> Bool[Tensor, " prompts"]:
    """Tell which groups have rewards that are all equal within `tolerance`."""
    return rewards.amax(dim=1) - rewards.amin(dim=1) <= tolerance


def group_advantages(
    rewards: Float[Tensor, "prompts group"], alpha: Float[Tensor, " prompts"], *, tolerance: float
) -> Float[Tensor, "prompts group"]:
    """A_ik = a_i (R_ik - mean_k R_ik) / (std_k R_ik + eps); zero where a group's rewards are all equal.

    The factor is one number per prompt, so a group's advantages still sum to zero.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    scaled = alpha[:, None] * centred / (rewards.std(dim=1, keepdim=True) + _EPSILON)
    return scaled.masked_fill(zero_variance(rewards, tolerance=tolerance)[:, None], 0.0)
