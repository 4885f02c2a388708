"""Settings to loaded models: the one place where the task layer names them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.config import Settings
from dr_irl.demonstrations.fitting import Lengths
from dr_irl.errors import SettingsError
from dr_irl.language.adapters import load_policy_adapter, merge_adapter_into, share_weights
from dr_irl.language.chat import prompt_ids
from dr_irl.language.load import (
    context_of,
    load_causal_lm,
    load_encoder,
    load_reward_backbone,
    load_tokenizer,
    look_at_policy,
)
from dr_irl.language.rendering import Rendering
from dr_irl.language.samplers import SAMPLERS
from dr_irl.language.sampling import Sampler
from dr_irl.scaling.hardness import Encode

_BATCH = 64
"""Texts that the encoder takes at once."""


def base_policy(settings: Settings) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the frozen base policy and its tokenizer."""
    models = settings.models
    model = load_causal_lm(
        models.policy, models.policy_revision, dtype=getattr(torch, models.number_format), device=models.device
    )
    return model, policy_tokenizer(settings)


def policy_tokenizer(settings: Settings) -> PreTrainedTokenizerBase:
    """Load the policy's tokenizer, whose chat template says what the settings give it."""
    models = settings.models
    return load_tokenizer(models.policy, models.policy_revision, rendering_of(settings))


def rendering_of(settings: Settings) -> Rendering:
    """Return what the chat template is given."""
    return Rendering(settings.models.template_arguments, settings.models.template_date)


def check_policy(settings: Settings) -> None:
    """Refuse, before anything is built, a policy that cannot be aligned, or not by these settings."""
    models, grpo, reward = settings.models, settings.grpo, settings.reward
    policy_tokenizer(settings)
    look_at_policy(
        models.policy,
        models.policy_revision,
        adapted=(grpo.adapted_layers, grpo.target_modules),
        rewarding=(reward.depth, reward.adapted_layers, reward.target_modules),
        dtype=getattr(torch, models.number_format),
        device=models.device,
    )
    _require_room(settings)


def _require_room(settings: Settings) -> None:
    """Refuse answers so long that no prompt of any length fits before them."""
    context = context_of(settings.models.policy, settings.models.policy_revision)
    lengths = {
        "completions.max_new_tokens": settings.completions.max_new_tokens,
        "evaluation.max_new_tokens": settings.evaluation.max_new_tokens,
        "warm_start.max_answer_tokens": settings.warm_start.max_answer_tokens if settings.warm_start.steps else 0,
        "demonstrations.max_new_tokens": (
            settings.demonstrations.max_new_tokens if settings.demonstrations.generator == "policy" else 0
        ),
    }
    beyond = [f"{name} = {length}" for name, length in lengths.items() if context is not None and length >= context]
    if beyond:
        raise SettingsError(
            f"{'; '.join(beyond)}: the context of {settings.models.policy!r} is {context} tokens, prompt and answer "
            "together; allowed is less, by what your prompts take"
        )


def prompt_lengths(settings: Settings, *, answer_tokens: int) -> tuple[Lengths, int | None]:
    """Return what counts the tokens of prompts, and how many of them leave the policy room for such an answer."""
    models = settings.models
    context = context_of(models.policy, models.policy_revision)
    most = None if context is None else context - answer_tokens

    def lengths(prompts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in prompt_ids(policy_tokenizer(settings), prompts)]

    return lengths, most


def merged_policy(settings: Settings, adapter: Path | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the base policy with a saved adapter merged in, or as it is."""
    model, tokenizer = base_policy(settings)
    if adapter is None:
        return model, tokenizer
    merged = share_weights(model)
    merge_adapter_into(merged, load_policy_adapter(model, adapter))
    return merged, tokenizer


def sampler_of(
    settings: Settings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_new_tokens: int,
    temperature: float,
    rows_at_once: int = 64,
    report: Callable[[int], object] = lambda tokens: None,
) -> Sampler:
    """Make the sampler that the settings name; `temperature` 0 is greedy, `report` hears of tokens."""
    make = SAMPLERS[settings.models.sampler]
    return make(
        model,
        tokenizer,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        rows_at_once=rows_at_once,
        report=report,
    )


def reward_backbone(settings: Settings) -> PreTrainedModel:
    """Load the frozen backbone of the reward models."""
    models = settings.models
    return load_reward_backbone(
        models.policy,
        models.policy_revision,
        depth=settings.reward.depth,
        dtype=getattr(torch, models.number_format),
        device=models.device,
    )


def text_encoder(settings: Settings) -> Any:
    """Load the sentence encoder."""
    return load_encoder(settings.models.encoder, settings.models.encoder_revision, device=settings.models.device)


def unit_embeddings(encoder: Any) -> Encode:
    """Make a sentence encoder a function to unit-length float32 embeddings."""

    def encode(texts: Sequence[str]) -> np.ndarray:
        # Left to itself the encoder sorts by characters, and a quarter of a batch of short clauses is padding.
        lengths_tokens = [len(ids) for ids in encoder.tokenizer(list(texts), truncation=True)["input_ids"]]
        order = np.argsort(lengths_tokens, kind="stable")
        sorted_rows = [
            encoder.encode(
                [texts[row] for row in order[start : start + _BATCH]],
                normalize_embeddings=True,
                batch_size=_BATCH,
                show_progress_bar=False,
            )
            for start in range(0, len(texts), _BATCH)
        ]
        return np.concatenate(sorted_rows)[np.argsort(order)]

    return encode
