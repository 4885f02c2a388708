"""Log-probabilities of given answers; logits are computed for answer positions only."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dr_irl.language.packing import Packed


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
    distribution = answer_distributions(states, head, packed, where=packed.answer, temperature=temperature)
    chosen = distribution.gather(1, packed.answer_ids[packed.answer][:, None])[:, 0]
    with torch.no_grad():
        entropy = -(distribution.exp() * distribution).sum(dim=-1)
    return AnswerLogprobs(logprobs=_scatter(chosen, packed.answer), entropy=_scatter(entropy, packed.answer))


def answer_distributions(
    states: Float[Tensor, "rows length hidden"],
    head: nn.Module,
    packed: Packed,
    *,
    where: Bool[Tensor, "answers tokens"],
    temperature: float = 1.0,
) -> Float[Tensor, "count vocabulary"]:
    """Log-probabilities of the whole vocabulary, in float32, at the answer tokens where `where` is True, in order."""
    sources = states.flatten(0, 1)[packed.predicted_from[where]]
    return (head(sources).float() / temperature).log_softmax(dim=-1)


def symmetric_kl(
    first: Float[Tensor, "count vocabulary"], second: Float[Tensor, "count vocabulary"]
) -> Float[Tensor, " count"]:
    """(KL(p || q) + KL(q || p)) / 2 of each pair of distributions, given as log-probabilities; nats."""
    return ((first.exp() - second.exp()) * (first - second)).sum(dim=-1) / 2


def _scatter(values: Float[Tensor, " count"], where: Bool[Tensor, "answers tokens"]) -> Float[Tensor, "answers tokens"]:
    return torch.zeros(where.shape, dtype=values.dtype, device=values.device).masked_scatter(where, values)
