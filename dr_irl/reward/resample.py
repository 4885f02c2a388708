"""Sampling importance resampling: hard negatives from a pool that the reference policy drew. Pure.

A round of inverse RL wants completions of the soft-optimal policy of its time, q(o|x) ~ pi_ref(o|x) exp(R(x, o)/beta).
They are drawn from a pool of pi_ref's own completions with probability proportional to exp(R / beta) (Rubin 1987), and
the weights pi_ref / q that put the partition function right go with them.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def resample(
    rewards: Float[Tensor, "prompts pool"], uniform: Float[Tensor, "prompts draws"], *, beta: float
) -> tuple[Int[Tensor, "prompts draws"], Float[Tensor, "prompts draws"]]:
    """Draw completions of the soft-optimal policy from the pool, with replacement, and weigh them for pi_ref.

    P(k) = exp(R_k/beta) / sum_l exp(R_l/beta), and w_k = mean_l exp(R_l/beta) / exp(R_k/beta): as the draws become
    many, mean_k w_k exp(R'_k/beta) is the pool's own mean of exp(R'/beta), for any later reward R'. At R' = R all
    terms are equal, so the gradient takes the plain mean over the draws: that of maximum-entropy IRL.

    Args:
        rewards: R(x, o_l) of the whole pool, under the reward to tilt by.
        uniform: numbers in [0, 1) that choose, so that the same numbers draw the same completions.
        beta: temperature.

    Returns:
        Places in the pool, and log w.
    """
    tilted = rewards.double() / beta
    cumulative = torch.softmax(tilted, dim=1).cumsum(dim=1)
    picks = torch.searchsorted(cumulative, uniform.double(), right=True).clamp(max=rewards.shape[1] - 1)
    mean = torch.logsumexp(tilted, dim=1, keepdim=True) - math.log(rewards.shape[1])
    return picks, (mean - tilted.gather(1, picks)).to(rewards.dtype)
