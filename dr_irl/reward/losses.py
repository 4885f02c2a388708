"""Maximum-likelihood inverse RL: losses on the rewards of demonstrations and completions. Pure.

Notation: R(x, y) reward of the demonstration, R(x, o_k) of the k-th completion drawn from the reference policy,
beta the temperature of the soft-optimal policy pi(o|x) ~ pi_ref(o|x) exp(R(x, o) / beta). Completions that were drawn
from another policy than pi_ref itself have weights w_k; None stands for w = 1.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from dr_irl.reward.options import LossOptions, RewardOptions

RewardLoss = Callable[
    [Float[Tensor, " prompts"], Float[Tensor, "prompts n"], Float[Tensor, "prompts n"] | None, RewardOptions],
    Float[Tensor, ""],
]
"""(R(x, y), R(x, o_k), log w_k, the options) -> the loss of a batch; what `reward.objectives.OBJECTIVES` holds."""


def ml_irl_loss(
    demonstration: Float[Tensor, " prompts"],
    completions: Float[Tensor, "prompts n"],
    log_weights: Float[Tensor, "prompts n"] | None,
    options: LossOptions,
) -> Float[Tensor, ""]:
    """-log [ exp(R(x,y)/beta) / (exp(R(x,y)/beta) + sum_k w_k exp(R(x,o_k)/beta)) ], mean over prompts.

    The denominator estimates the partition function from n completions; the demonstration is one of its terms, so
    that the estimate is bounded. With n = 1 this is the pairwise logistic loss.
    """
    terms = completions / options.beta if log_weights is None else completions / options.beta + log_weights
    demonstrated = demonstration / options.beta
    partition = torch.logsumexp(torch.cat([demonstrated[:, None], terms], dim=1), dim=1)
    return (partition - demonstrated).mean()


def pairwise_loss(
    demonstration: Float[Tensor, " prompts"],
    completions: Float[Tensor, "prompts n"],
    log_weights: Float[Tensor, "prompts n"] | None,
    options: LossOptions,
) -> Float[Tensor, ""]:
    """-log s((R(x,y) - R(x,o_k)) / beta), mean over prompts and completions: each pair on its own, unweighted."""
    del log_weights  # they belong to a partition function, and this loss has none
    return F.softplus((completions - demonstration[:, None]) / options.beta).mean()


def minimax_loss(
    demonstration: Float[Tensor, " prompts"],
    completions: Float[Tensor, "prompts n"],
    log_weights: Float[Tensor, "prompts n"] | None,
    options: LossOptions,
) -> Float[Tensor, ""]:
    """Mean R(x,o) - mean R(x,y) + penalty * mean R^2: the paper's form, kept bounded by the last term; unweighted."""
    del log_weights  # they belong to a partition function, and this loss has none
    size = (demonstration**2).mean() + (completions**2).mean()
    return completions.mean() - demonstration.mean() + options.minimax_penalty * size
