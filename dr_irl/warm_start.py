"""Supervised fine-tuning on a few demonstrations before GRPO. Not part of the method: it saves steps of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from dr_irl.categories import BENIGN
from dr_irl.errors import DivergenceError
from dr_irl.language.adapters import trainable_parameters
from dr_irl.language.chat import padding_id, prompt_ids, response_ids
from dr_irl.language.logprobs import answer_logprobs
from dr_irl.language.masks import micro_batches
from dr_irl.language.packing import Bundle, pack
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


def warm_start(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[TrainingPrompt],
    options: WarmStart,
    *,
    generator: torch.Generator,
    report: Callable[[float], object],
) -> list[float]:
    """Raise the likelihood of the demonstrations, harmful and benign mixed; returns the loss of every step.

    Args:
        model: modified in place: its active adapter is trained.
        tokenizer: the model's.
        prompts: with their demonstrations.
        options: see `WarmStart`.
        generator: chooses the rows of every step.
        report: hears the loss after every step.

    Raises:
        DivergenceError: a loss is not finite.
    """
    questions = prompt_ids(tokenizer, [p.text for p in prompts])
    answers = response_ids(tokenizer, [p.demonstration for p in prompts], limit=options.limit)
    bundles = [Bundle(question, [answer]) for question, answer in zip(questions, answers, strict=True)]
    decoder, head = SplitDecoder(model, upper_layers=options.adapted_layers), model.get_output_embeddings()
    ratio = options.benign_share if any(p.category == BENIGN for p in prompts) else 0.0
    schedule = schedule_prompts(
        [p.category for p in prompts],
        steps=options.steps,
        per_step=options.rows_per_step,
        benign_ratio=ratio,
        generator=generator,
    )
    parameters = trainable_parameters(model)
    optimiser = torch.optim.AdamW(parameters, lr=options.learning_rate, weight_decay=0.0)
    losses: list[float] = []
    for step, rows in enumerate(schedule):
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * warm_up_then_decay(step, options.steps)
        optimiser.zero_grad()
        total = 0.0
        for batch in micro_batches([len(bundles[row]) for row in rows], options.micro_batch_tokens):
            packed = pack([bundles[rows[i]] for i in batch], pad=padding_id(tokenizer), device=model.device)
            states = decoder.states(decoder.features(packed), packed)
            logprobs = answer_logprobs(states, head, packed).logprobs
            loss = -(logprobs.sum(dim=1) / packed.answer.sum(dim=1)).sum() / len(rows)
            loss.backward()
            total += loss.item()
        if not torch.isfinite(torch.tensor(total)):
            raise DivergenceError(f"the warm-start loss is {total} at step {step}; lower warm_start.learning_rate")
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(total)
        report(total)
    return losses
