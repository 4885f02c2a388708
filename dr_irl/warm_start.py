"""Supervised fine-tuning on a few demonstrations before GRPO. Not part of the method: it saves steps of it.

A harmful prompt teaches its demonstration. An ordinary prompt holds the policy where it is: the untrained policy's own
answer stays as likely as it was, word by word, and so do the first words of a refusal, to which the untrained policy
would never get by itself. An ordinary prompt without an own answer is held in the opening of its demonstration, where
refusing is decided, and taught the rest.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dr_irl.categories import BENIGN
from dr_irl.errors import DivergenceError
from dr_irl.language.adapters import trainable_parameters
from dr_irl.language.chat import padding_id, preamble_length, prompt_ids, response_ids
from dr_irl.language.logprobs import answer_distributions, symmetric_kl
from dr_irl.language.masks import micro_batches
from dr_irl.language.packing import Bundle, Packed, pack
from dr_irl.language.split import SplitDecoder
from dr_irl.policy.rollouts import TrainingPrompt, schedule_prompts
from dr_irl.reward.train import warm_up_then_decay


@dataclass(frozen=True, slots=True)
class WarmStart:
    """The options of the warm start."""

    steps: int
    rows_per_step: int
    benign_share: float
    learning_rate: float
    micro_batch_tokens: int
    adapted_layers: int
    limit: int
    """Demonstrations are cut at this many tokens."""
    opening_tokens: int
    """The first tokens of an answer, where refusing or answering is decided."""
    content_weight: float
    """Weight of every later token; a token of the opening has 1."""
    benign_weight: float
    """Weight of an ordinary answer in the loss; a harmful prompt's has 1."""


@dataclass(frozen=True, slots=True)
class _Row:
    bundle: Bundle
    """A prompt with its demonstration or own answer; an ordinary prompt also with the opening of a refusal."""
    held: tuple[int, ...]
    """Of each answer: how many leading tokens are held to the untrained policy; the others are learnt."""

    @property
    def is_benign(self) -> bool:
        return any(self.held)


def warm_start(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[TrainingPrompt],
    options: WarmStart,
    *,
    own_answers: Mapping[str, str],
    generator: torch.Generator,
    report: Callable[[float], object],
) -> list[float]:
    """Learn the demonstrations to harmful prompts, hold the policy on ordinary ones; returns the loss of every step.

    Args:
        model: modified in place: its active adapter is trained; the model without it is what is held.
        tokenizer: the model's.
        prompts: with their demonstrations; some of them harmful.
        options: see `WarmStart`.
        own_answers: id of an ordinary prompt -> what the untrained policy answers to it.
        generator: chooses the rows of every step, and the refusals whose openings ordinary prompts are given.
        report: hears the loss after every step.

    Raises:
        DivergenceError: a loss is not finite.
    """
    rows = _rows(tokenizer, prompts, options, own_answers, generator)
    decoder, shared = SplitDecoder(model, upper_layers=options.adapted_layers), preamble_length(tokenizer)
    schedule = schedule_prompts(
        [p.category for p in prompts],
        steps=options.steps,
        per_step=options.rows_per_step,
        benign_ratio=options.benign_share if any(p.category == BENIGN for p in prompts) else 0.0,
        generator=generator,
    )
    parameters = trainable_parameters(model)
    optimiser = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=0.0)
    losses: list[float] = []
    for step, chosen in enumerate(schedule):
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * warm_up_then_decay(step, options.steps)
        optimiser.zero_grad()
        total = 0.0
        for batch in _batches([rows[row] for row in chosen], shared, options.micro_batch_tokens):
            packed = pack([r.bundle for r in batch], pad=padding_id(tokenizer), shared=shared, device=model.device)
            loss = _losses(model, decoder, packed, batch, options).sum() / len(chosen)
            loss.backward()
            total += loss.item()
        if not torch.isfinite(torch.tensor(total)):
            raise DivergenceError(f"the warm-start loss is {total} at step {step}; lower warm_start.learning_rate")
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(total)
        report(total)
    return losses


def _rows(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[TrainingPrompt],
    options: WarmStart,
    own_answers: Mapping[str, str],
    generator: torch.Generator,
) -> list[_Row]:
    questions = prompt_ids(tokenizer, [p.text for p in prompts])
    texts = [own_answers.get(p.id, p.demonstration) for p in prompts]
    answers = response_ids(tokenizer, texts, limit=options.limit)
    refusals = [a[: options.opening_tokens] for a, p in zip(answers, prompts, strict=True) if p.category != BENIGN]
    rows: list[_Row] = []
    for prompt, question, answer in zip(prompts, questions, answers, strict=True):
        if prompt.category != BENIGN:
            rows.append(_Row(Bundle(question, [answer]), held=(0,)))
            continue
        held = len(answer) if prompt.id in own_answers else options.opening_tokens
        refusal = refusals[int(torch.randint(len(refusals), (), generator=generator))]
        rows.append(_Row(Bundle(question, [answer, refusal]), held=(held, len(refusal))))
    return rows


def _batches(rows: Sequence[_Row], shared: int, max_tokens: int) -> Iterator[list[_Row]]:
    """Micro-batches of one kind each: only ordinary rows need the untrained policy's distributions."""
    for is_benign in (False, True):
        alike = [row for row in rows if row.is_benign == is_benign]
        for places in micro_batches([len(row.bundle) - shared for row in alike], max_tokens):
            yield [alike[place] for place in places]


def _losses(
    model: PeftModel, decoder: SplitDecoder, packed: Packed, batch: Sequence[_Row], options: WarmStart
) -> Float[Tensor, " answers"]:
    """Loss of each answer: the weighted mean of its tokens' losses, times the weight of its kind."""
    features, head, counts = decoder.features(packed), model.get_output_embeddings(), packed.answer
    places = torch.arange(counts.shape[1], device=counts.device)
    first_learnt = torch.tensor([count for row in batch for count in row.held], device=counts.device)
    held = (places < first_learnt[:, None]) & counts
    policy = answer_distributions(decoder.states(features, packed), head, packed, where=counts)
    losses = -policy.gather(1, packed.answer_ids[counts][:, None])[:, 0]
    if held.any():
        with torch.no_grad(), model.disable_adapter():
            base = answer_distributions(decoder.states(features, packed), head, packed, where=held)
        losses = losses.masked_scatter(held[counts], symmetric_kl(policy[held[counts]], base))
    weights = torch.where(held | (places < options.opening_tokens), 1.0, options.content_weight) * counts
    means = (torch.zeros_like(weights).masked_scatter(counts, losses) * weights).sum(dim=1) / weights.sum(dim=1)
    return torch.where(first_learnt > 0, options.benign_weight, 1.0) * means
