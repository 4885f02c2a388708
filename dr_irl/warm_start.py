"""Supervised fine-tuning on a few demonstrations before GRPO. Not part of the method: it saves steps of it.

A harmful prompt teaches its demonstration. Which of the usual openings that one has says nothing about the prompt, so
what is taught there is how often each occurs in all of them. An ordinary prompt holds the policy where it is: the
untrained policy's own answer stays as likely as it was, word by word, and so do the first words of a refusal, to which
the untrained policy would never get by itself. An ordinary prompt without an own answer is held in the opening of its
demonstration, where refusing is decided, and taught the rest.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress

import torch
from jaxtyping import Bool, Float
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dr_irl.categories import BENIGN
from dr_irl.errors import DivergenceError
from dr_irl.language.chat import padding_id, preamble_length, prompt_ids, response_ids
from dr_irl.language.decoders import open_decoder
from dr_irl.language.logprobs import (
    answer_distributions,
    answer_states,
    distributions,
    soft_cross_entropy,
    symmetric_kl,
)
from dr_irl.language.masks import micro_batches
from dr_irl.language.openings import Openings, TokenShares, certain
from dr_irl.language.own_head import head_of
from dr_irl.language.packing import Bundle, Packed, pack
from dr_irl.language.split import pad_features
from dr_irl.policy.options import WarmStartOptions
from dr_irl.policy.rollouts import TrainingPrompt, schedule_prompts
from dr_irl.reward.train import warm_up_then_decay
from dr_irl.snapshot import NO_CHECKPOINTS, Checkpoints, restore_training, trainable_by_name, training_snapshot


@dataclass(frozen=True, slots=True)
class _Row:
    position: int
    """Among all rows; ids may repeat where the balance repeats rows."""
    bundle: Bundle
    """A prompt with its demonstration or own answer; an ordinary prompt also with the opening of a refusal."""
    held: tuple[int, ...]
    """Of each answer: how many leading tokens are held to the untrained policy; the others are learnt."""
    targets: Sequence[TokenShares]
    """Of every token of every answer: what is learnt there, unless it is held."""

    @property
    def is_benign(self) -> bool:
        return any(self.held)


def warm_start(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[TrainingPrompt],
    options: WarmStartOptions,
    *,
    adapted_layers: int,
    micro_batch_tokens: int,
    own_answers: Mapping[str, str],
    generator: torch.Generator,
    report: Callable[[float], object],
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> list[float]:
    """Learn the demonstrations to harmful prompts, hold the policy on ordinary ones; returns the loss of every step.

    Args:
        model: modified in place: its active adapter is trained; the model without it is what is held.
        tokenizer: the model's.
        prompts: with their demonstrations; some of them harmful.
        options: of the warm start.
        adapted_layers: topmost layers of the model that carry LoRA.
        micro_batch_tokens: padded tokens in one forward and backward pass.
        own_answers: id of an ordinary prompt -> what the untrained policy answers to it.
        generator: chooses the rows of every step, and the refusals whose openings ordinary prompts are given; all
            before the first step and whether or not training goes on from a later one.
        report: hears the loss after every step.
        checkpoints: says where to go on, if not at the first step, and keeps where training stands.

    Raises:
        DataError: the checkpoint is of another model.
        DivergenceError: a loss is not finite.
    """
    rows = _rows(tokenizer, prompts, options, own_answers, generator)
    schedule = schedule_prompts(
        [p.category for p in prompts],
        steps=options.steps,
        per_step=options.rows_per_step,
        benign_ratio=options.benign_share if any(p.category == BENIGN for p in prompts) else 0.0,
        generator=generator,
    )
    used = sorted({row for chosen in schedule for row in chosen})
    learner = _Learner(
        model,
        tokenizer,
        [rows[row] for row in used],
        options,
        adapted_layers=adapted_layers,
        micro_batch_tokens=micro_batch_tokens,
    )
    parameters = trainable_by_name(model)
    optimiser = torch.optim.AdamW(list(parameters.values()), lr=options.learning_rate, weight_decay=0.0)
    losses: list[float] = []
    if (snapshot := checkpoints.load()) is not None:
        restore_training(snapshot, parameters, optimiser)
        losses = list(snapshot.state["losses"])
    for step in range(len(losses), options.steps):
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * warm_up_then_decay(step, options.steps)
        optimiser.zero_grad()
        total = 0.0
        for batch in learner.batches([rows[row] for row in schedule[step]]):
            loss = learner.losses(batch).sum() / len(schedule[step])
            loss.backward()
            total += loss.item()
        if not torch.isfinite(torch.tensor(total)):
            raise DivergenceError(f"the warm-start loss is {total} at step {step}; lower warm_start.learning_rate")
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimiser.step()
        losses.append(total)
        capture = partial(training_snapshot, step + 1, parameters, optimiser, {"losses": losses})
        checkpoints.after_step(step + 1, capture)
        report(total)
    return losses


def _rows(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[TrainingPrompt],
    options: WarmStartOptions,
    own_answers: Mapping[str, str],
    generator: torch.Generator,
) -> list[_Row]:
    questions = prompt_ids(tokenizer, [p.text for p in prompts])
    texts = [own_answers.get(p.id, p.demonstration) for p in prompts]
    answers = response_ids(tokenizer, texts, limit=options.max_answer_tokens)
    refusals = [answer for answer, p in zip(answers, prompts, strict=True) if p.category != BENIGN]
    openings = Openings(refusals, depth=options.opening_tokens)
    rows: list[_Row] = []
    for position, (prompt, question, answer) in enumerate(zip(prompts, questions, answers, strict=True)):
        if prompt.category != BENIGN:
            rows.append(_Row(position, Bundle(question, [answer]), held=(0,), targets=openings.targets(answer)))
            continue
        held = len(answer) if prompt.id in own_answers else options.opening_tokens
        refusal = refusals[int(torch.randint(len(refusals), (), generator=generator))][: options.opening_tokens]
        bundle = Bundle(question, [answer, refusal])
        rows.append(_Row(position, bundle, held=(held, len(refusal)), targets=certain([*answer, *refusal])))
    return rows


class _Learner:
    """The losses of rows. What training does not change is computed when a row first comes up, and kept.

    It is computed for a whole chunk of rows, the same whichever of them comes up first: a row's bits depend on those it
    is padded with, and a resumed run, whose rows come up in another order, must see the same bits.
    """

    def __init__(
        self,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        rows: Sequence[_Row],
        options: WarmStartOptions,
        *,
        adapted_layers: int,
        micro_batch_tokens: int,
    ) -> None:
        """Expect exactly `rows`: a row that never comes up would be computed in vain, with its chunk."""
        self._model, self._head, self._options = model, head_of(model), options
        self._decoder, self._budget = open_decoder(model, upper_layers=adapted_layers), micro_batch_tokens
        self._pad, self._shared = padding_id(tokenizer), preamble_length(tokenizer)
        self._features: dict[int, Tensor] = {}
        self._base: dict[int, Tensor] = {}
        self._chunks = {row.position: chunk for chunk in self.batches(rows) for row in chunk}

    def batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Micro-batches of rows of similar length."""
        lengths = [len(row.bundle) - self._shared for row in rows]
        for places in micro_batches(lengths, self._budget):
            yield [rows[place] for place in places]

    def losses(self, batch: Sequence[_Row]) -> Float[Tensor, " answers"]:
        """Loss of each answer: the weighted mean of its tokens' losses, times the weight of its kind."""
        options = self._options
        for row in batch:
            if row.position not in self._features:
                self._prepare(self._chunks[row.position])
        packed = self._pack(batch)
        states, counts, held = self._states(batch, packed), packed.answer, _held(batch, packed)
        learnt = counts & ~held
        losses = torch.zeros(counts.shape, device=counts.device)
        if learnt.any():
            targets = compress((target for row in batch for target in row.targets), learnt[counts].tolist())
            policy = answer_distributions(states, self._head, packed, where=learnt)
            losses = losses.masked_scatter(learnt, soft_cross_entropy(policy, list(targets)))
        if held.any():
            policy = answer_distributions(states, self._head, packed, where=held)
            base = distributions(torch.cat([self._base[row.position] for row in batch if row.is_benign]), self._head)
            losses = losses.masked_scatter(held, symmetric_kl(policy, base))
        places = torch.arange(counts.shape[1], device=counts.device)
        weights = torch.where(held | (places < options.opening_tokens), 1.0, options.content_weight) * counts
        means = (losses * weights).sum(dim=1) / weights.sum(dim=1)
        return torch.where(held.any(dim=1), options.benign_weight, 1.0) * means

    @torch.no_grad()
    def _prepare(self, rows: Sequence[_Row]) -> None:
        """Keep the rows' states below the adapters, and the untrained policy's final ones where it is held."""
        for row, states in zip(rows, self._decoder.features(self._pack(rows)), strict=True):
            self._features[row.position] = states[: len(row.bundle) - self._shared].clone()
        benign = [row for row in rows if row.is_benign]
        if not benign:
            return
        packed = self._pack(benign)
        held = _held(benign, packed)
        with self._model.disable_adapter():
            states = answer_states(self._states(benign, packed), packed, where=held)
        counts = [int(of_row.sum()) for of_row in held.sum(dim=1).split([len(row.held) for row in benign])]
        for row, kept in zip(benign, states.split(counts), strict=True):
            self._base[row.position] = kept.clone()

    def _states(self, rows: Sequence[_Row], packed: Packed) -> Float[Tensor, "rows length hidden"]:
        return self._decoder.states(pad_features([self._features[row.position] for row in rows]), packed)

    def _pack(self, rows: Sequence[_Row]) -> Packed:
        return pack([row.bundle for row in rows], pad=self._pad, shared=self._shared, device=self._model.device)


def _held(rows: Sequence[_Row], packed: Packed) -> Bool[Tensor, "answers tokens"]:
    """Return where the policy is held to the untrained one."""
    counts = packed.answer
    first_learnt = torch.tensor([count for row in rows for count in row.held], device=counts.device)
    return (torch.arange(counts.shape[1], device=counts.device) < first_learnt[:, None]) & counts
