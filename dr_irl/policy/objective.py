"""GRPO's loss: clipped surrogate and KL penalty to the reference policy (arXiv 2402.03300, equation 3).

The loss of a batch is sum_rt w_r (kl_weight KL_rt - surrogate_rt) over the tokens that count; `token_weights` gives w.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dr_irl.policy.options import LossType


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
    clip_high: float | None = None,
) -> Float[Tensor, "rows tokens"]:
    """min(rho A, clip(rho, 1 - clip, 1 + clip_high) A) per token, with rho = pi / pi_old.

    `clip_high` above `clip` leaves rare tokens room to grow (arXiv 2503.14476, section 3.1); None: the same as `clip`.
    """
    ratio = (logprobs - old_logprobs).exp()
    bounded = ratio.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    return torch.minimum(ratio * advantages[:, None], bounded * advantages[:, None])


def token_weights(lengths: Int[Tensor, " rows"], *, loss_type: LossType, max_tokens: int) -> Float[Tensor, " rows"]:
    """Weight of each token of a row in the loss of a batch of N rows.

    `grpo`: 1 / (N length), every completion weighs the same (arXiv 2402.03300); `dr_grpo`: 1 / (N max_tokens), every
    token the same, whatever the lengths are (arXiv 2503.20783); `dapo`: 1 / sum of lengths (arXiv 2503.14476).

    Args:
        lengths: tokens of each row that count; a row may have none.
        loss_type: which of the three.
        max_tokens: the most tokens that a completion can have.
    """
    lengths = lengths.float()
    match loss_type:
        case "grpo":
            return 1.0 / (len(lengths) * lengths.clamp(min=1))
        case "dr_grpo":
            return torch.full_like(lengths, 1.0 / (len(lengths) * max_tokens))
        case "dapo":
            return torch.full_like(lengths, 1.0) / lengths.sum().clamp(min=1)


def sequence_means(values: Float[Tensor, "rows tokens"], counts: Bool[Tensor, "rows tokens"]) -> Float[Tensor, " rows"]:
    """Mean of each row's tokens that count; 0 for a row without any."""
    return (values * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)
