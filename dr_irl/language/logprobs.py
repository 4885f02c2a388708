"""Log-probabilities of given answers; logits are computed for answer positions only.

A vocabulary is large: the logits of one micro-batch of GRPO fill 140 MB. Where only the log-probability of one token
and the entropy are wanted, they are computed a few positions at a time and not kept: what the backward pass needs of
them is one vector per position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dr_irl.language.openings import TokenShares
from dr_irl.language.own_head import whole_head
from dr_irl.language.packing import Packed

_POSITIONS = 128
"""At once: 25 MB of logits for a vocabulary of 49,152."""


@dataclass(frozen=True, slots=True)
class AnswerLogprobs:
    """Of every answer token: its log-probability, and the entropy of the distribution it was drawn from."""

    logprobs: Float[Tensor, "answers tokens"]
    """0 at padding."""
    entropy: Float[Tensor, "answers tokens"]
    """Nats, without gradient; 0 at padding."""


def answer_logprobs(
    states: Float[Tensor, "rows length hidden"], head: nn.Module, packed: Packed, *, temperature: float = 1.0
) -> AnswerLogprobs:
    """Score each answer in float32, given the final states of the rows and the language-model head."""
    head = whole_head(head)
    predicting = answer_states(states, packed, where=packed.answer)
    chunks = zip(predicting.split(_POSITIONS), packed.answer_ids[packed.answer].split(_POSITIONS), strict=True)
    score = _FrozenHeadScores.apply if _is_frozen(head) else _scores
    scored = [score(some, chosen, head, temperature)[:2] for some, chosen in chunks]
    logprobs, entropy = map(torch.cat, zip(*scored, strict=True))
    return AnswerLogprobs(logprobs=_scatter(logprobs, packed.answer), entropy=_scatter(entropy, packed.answer))


def answer_distributions(
    states: Float[Tensor, "rows length hidden"],
    head: nn.Module,
    packed: Packed,
    *,
    where: Bool[Tensor, "answers tokens"],
    temperature: float = 1.0,
) -> Float[Tensor, "count vocabulary"]:
    """Log-probabilities of the whole vocabulary, in float32, at the answer tokens where `where` is True, in order."""
    return distributions(answer_states(states, packed, where=where), head, temperature=temperature)


def answer_states(
    states: Float[Tensor, "rows length hidden"], packed: Packed, *, where: Bool[Tensor, "answers tokens"]
) -> Float[Tensor, "count hidden"]:
    """Pick the states that predict the answer tokens where `where` is True, in order."""
    return states.flatten(0, 1)[packed.predicted_from[where]]


def distributions(
    states: Float[Tensor, "count hidden"], head: nn.Module, *, temperature: float = 1.0
) -> Float[Tensor, "count vocabulary"]:
    """Log-probabilities of the whole vocabulary, in float32, after each of the final states."""
    return _logits(whole_head(head), states, temperature).log_softmax(dim=-1)


def symmetric_kl(
    first: Float[Tensor, "count vocabulary"], second: Float[Tensor, "count vocabulary"]
) -> Float[Tensor, " count"]:
    """(KL(p || q) + KL(q || p)) / 2 of each pair of distributions, given as log-probabilities; nats."""
    return ((first.exp() - second.exp()) * (first - second)).sum(dim=-1) / 2


def soft_cross_entropy(
    logprobs: Float[Tensor, "count vocabulary"], targets: Sequence[TokenShares]
) -> Float[Tensor, " count"]:
    """-sum_v share(v) log p(v) of each distribution, given as log-probabilities; nats."""
    width = max(map(len, targets))
    ids = torch.tensor([[*target, *[0] * (width - len(target))] for target in targets], device=logprobs.device)
    shares = torch.tensor([[*target.values(), *[0.0] * (width - len(target))] for target in targets])
    return -(logprobs.gather(1, ids) * shares.to(logprobs.device)).sum(dim=-1)


def _scores(
    states: Float[Tensor, "count hidden"], chosen: Int[Tensor, " count"], head: nn.Module, temperature: float
) -> tuple[Float[Tensor, " count"], Float[Tensor, " count"], Float[Tensor, "count vocabulary"]]:
    """Log-probabilities of the chosen tokens, entropies log Z - sum_v p(v) logit(v), and the p(v), without gradient."""
    logits = _logits(head, states, temperature)
    normaliser = logits.logsumexp(dim=-1)
    with torch.no_grad():
        shares = (logits - normaliser[:, None]).exp_()
        entropy = normaliser - torch.linalg.vecdot(shares, logits)
    return logits.gather(1, chosen[:, None])[:, 0] - normaliser, entropy, shares


class _FrozenHeadScores(torch.autograd.Function):
    """The first two of `_scores`, whose gradient is computed with them, while the probabilities are at hand.

    Of a linear head, d log p(chosen) / d state = (w_chosen - sum_v p(v) w_v) / temperature, with w_v the head's weights
    of token v. Of others, torch works it out, at once, so that no logits wait for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, chosen: Tensor, head: nn.Module, temperature: float) -> tuple[Tensor, Tensor]:
        if not ctx.needs_input_grad[0]:
            logprobs, entropy, _ = _scores(states, chosen, head, temperature)
        elif type(head) is nn.Linear:
            logprobs, entropy, shares = _scores(states, chosen, head, temperature)
            mean = shares.to(head.weight.dtype) @ head.weight
            ctx.save_for_backward((head.weight[chosen].float() - mean.float()) / temperature)
        else:
            with torch.enable_grad():
                given = states.detach().requires_grad_()
                logprobs, entropy, _ = _scores(given, chosen, head, temperature)
                # No position's score depends on another's state: the gradient of the sum holds that of each.
                ctx.save_for_backward(*torch.autograd.grad(logprobs.sum(), given))
            logprobs = logprobs.detach()
        ctx.number_format = states.dtype
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (of_states,) = ctx.saved_tensors
        return (gradients[0][:, None] * of_states).to(ctx.number_format), None, None, None


def _is_frozen(head: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in head.parameters())


def _logits(
    head: nn.Module, states: Float[Tensor, "count hidden"], temperature: float
) -> Float[Tensor, "count vocabulary"]:
    logits = head(states).float()
    return logits if temperature == 1.0 else logits / temperature


def _scatter(values: Float[Tensor, " count"], where: Bool[Tensor, "answers tokens"]) -> Float[Tensor, "answers tokens"]:
    return torch.zeros(where.shape, dtype=values.dtype, device=values.device).masked_scatter(where, values)
