"""GRPO's loss: clipped surrogate and KL penalty to the reference policy (arXiv 2402.03300, equation 3)."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def kl_estimate(
    logprobs: Float[Tensor, "rows tokens"], reference: Float[Tensor, "rows tokens"]
) -> Float[Tensor, "rows tokens"]:
    """Unbiased, non-negative estimate of KL(pi || pi_ref) per token: r - log r - 1 with r = pi_ref / pi.

    Equation 4 of arXiv 2402.03300; tokens must be drawn from pi.
    """
    log_ratio = reference - logprobs
    return log_ratio.exp() - log_ratio - 1


def clipped_surrogate(
    logprobs: Float[Tensor, "rows tokens"],
    old_logprobs: Float[Tensor, "rows tokens"],
    advantages: Float[Tensor, " rows"],
    *,
    clip: float,
) -> Float[Tensor, "rows tokens"]:
    """min(rho A, clip(rho, 1 - eps, 1 + eps) A) per token, with rho = pi / pi_old."""
    ratio = (logprobs - old_logprobs).exp()
    bounded = ratio.clamp(1 - clip, 1 + clip)
    return torch.minimum(ratio * advantages[:, None], bounded * advantages[:, None])


def sequence_means(values: Float[Tensor, "rows tokens"], counts: Bool[Tensor, "rows tokens"]) -> Float[Tensor, " rows"]:
    """Mean of each row's tokens that count; 0 for a row without any."""
    return (values * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
