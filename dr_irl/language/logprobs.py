"""Log-probabilities of given answers; logits are computed for answer positions only."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dr_irl.language.openings import TokenShares
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
    logits = head(states).float()
    return (logits if temperature == 1.0 else logits / temperature).log_softmax(dim=-1)


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


def _scatter(values: Float[Tensor, " count"], where: Bool[Tensor, "answers tokens"]) -> Float[Tensor, "answers tokens"]:
    return torch.zeros(where.shape, dtype=values.dtype, device=values.device).masked_scatter(where, values)
