"""Maximum-likelihood inverse RL: losses on the rewards of demonstrations and completions. Pure.

Notation: R(x, y) reward of the demonstration, R(x, o_k) of the k-th completion drawn from the reference policy,
beta the temperature of the soft-optimal policy pi(o|x) ~ pi_ref(o|x) exp(R(x, o) / beta).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from dr_irl.reward.objectives import OBJECTIVES


def ml_irl_loss(
    demonstration: Float[Tensor, " prompts"],
    completions: Float[Tensor, "prompts n"],
    *,
    beta: float,
    log_weights: Float[Tensor, "prompts n"] | None = None,
) -> Float[Tensor, ""]:
    """-log [ exp(R(x,y)/beta) / (exp(R(x,y)/beta) + sum_k w_k exp(R(x,o_k)/beta)) ], mean over prompts.

    The denominator estimates the partition function from n completions; the demonstration is one of its terms, so
    that the estimate is bounded. With n = 1 this is the pairwise logistic loss.

    Args:
        demonstration: R(x, y).
        completions: R(x, o_k).
        beta: temperature.
        log_weights: log w_k, where the completions were not drawn from pi_ref itself; w = 1 by default.
    """
    terms = completions / beta if log_weights is None else completions / beta + log_weights
    demonstrated = demonstration / beta
    partition = torch.logsumexp(torch.cat([demonstrated[:, None], terms], dim=1), dim=1)
    return (partition - demonstrated).mean()


def pairwise_loss(
    demonstration: Float[Tensor, " prompts"], completions: Float[Tensor, "prompts n"], *, beta: float
) -> Float[Tensor, ""]:
    """-log s((R(x,y) - R(x,o_k)) / beta), mean over prompts and completions: each pair on its own."""
    return F.softplus((completions - demonstration[:, None]) / beta).mean()


def minimax_loss(
    demonstration: Float[Tensor, " prompts"], completions: Float[Tensor, "prompts n"], *, penalty: float
) -> Float[Tensor, ""]:
    """Mean R(x,o) - mean R(x,y) + penalty * mean R^2: the paper's form, kept bounded by the last term."""
    size = (demonstration**2).mean() + (completions**2).mean()
    return completions.mean() - demonstration.mean() + penalty * size


@dataclass(frozen=True, slots=True)
class Objective:
    """Which loss, with its constants."""

    name: str
    """One of `dr_irl.reward.objectives.OBJECTIVES`."""
    beta: float
    minimax_penalty: float

    def loss(
        self,
        demonstration: Float[Tensor, " prompts"],
        completions: Float[Tensor, "prompts n"],
        log_weights: Float[Tensor, "prompts n"] | None = None,
    ) -> Float[Tensor, ""]:
        """Compute the named loss."""
        return OBJECTIVES[self.name](demonstration, completions, log_weights, self)


RewardLoss = Callable[
    [Float[Tensor, " prompts"], Float[Tensor, "prompts n"], Float[Tensor, "prompts n"] | None, Objective],
    Float[Tensor, ""],
]
"""(R(x, y), R(x, o_k), log w_k, the constants) -> the loss of a batch; what `OBJECTIVES` holds."""


def ml_irl(
    demonstration: Float[Tensor, " prompts"],
    completions: Float[Tensor, "prompts n"],
    log_weights: Float[Tensor, "prompts n"] | None,
    constants: Objective,
) -> Float[Tensor, ""]:
    """`ml_irl_loss` at these constants."""
    return ml_irl_loss(demonstration, completions, beta=constants.beta, log_weights=log_weights)


def pairwise(
    demonstration: Float[Tensor, " prompts"],
    completions: Float[Tensor, "prompts n"],
    log_weights: Float[Tensor, "prompts n"] | None,
    constants: Objective,
) -> Float[Tensor, ""]:
    """`pairwise_loss` at these constants; without a partition function no weights count."""
    del log_weights
    return pairwise_loss(demonstration, completions, beta=constants.beta)


def minimax(
    demonstration: Float[Tensor, " prompts"],
    completions: Float[Tensor, "prompts n"],
    log_weights: Float[Tensor, "prompts n"] | None,
    constants: Objective,
) -> Float[Tensor, ""]:
    """`minimax_loss` at these constants; without a partition function no weights count."""
    del log_weights
    return minimax_loss(demonstration, completions, penalty=constants.minimax_penalty)
