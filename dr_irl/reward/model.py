"""One reward model: LoRA on the topmost layers of a frozen backbone, and a scalar head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.errors import DataError
from dr_irl.language.adapters import draw_lora_weights
from dr_irl.language.anatomy import context_length, decoder_of, layers_name, named_projections
from dr_irl.language.chat import bare_answers, padding_id, preamble_length, prompt_ids, response_ids
from dr_irl.language.decoders import open_decoder
from dr_irl.language.masks import micro_batches
from dr_irl.language.packing import Bundle, Packed, pack
from dr_irl.language.split import pad_features, topmost_layers

_TOKENS_PER_PASS = {"cpu": 1024, "cuda": 8192}
"""Padded tokens that run together without gradients; on a CPU, more do not stay in its caches."""

_UNBOUNDED = 2**31
"""Tokens that a backbone takes where nothing in it bounds them."""


def add_reward_adapter(
    backbone: PreTrainedModel | PeftModel,
    name: str,
    *,
    rank: int,
    adapted_layers: int,
    target_modules: Sequence[str],
    generator: torch.Generator,
) -> PeftModel:
    """Put a fresh adapter and head on a backbone; the head starts at zero, so every reward does.

    Args:
        backbone: modified in place; one that carries adapters already gets one more, and this one is active.
        name: of the adapter: the category.
        rank: of the LoRA matrices.
        adapted_layers: topmost layers that carry LoRA.
        target_modules: projections that carry LoRA.
        generator: draws the LoRA A matrices of this adapter.
    """
    layers = topmost_layers(backbone, adapted_layers)
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=rank,
        lora_alpha=2 * rank,
        target_modules=named_projections(backbone, target_modules, layers),
        layers_to_transform=layers,
        layers_pattern=layers_name(decoder_of(backbone)),
        modules_to_save=["score"],
    )
    if isinstance(backbone, PeftModel):
        backbone.add_adapter(name, config)
        backbone.set_adapter(name)
        model = backbone
    else:
        model = get_peft_model(backbone, config, adapter_name=name)
    draw_lora_weights(model, generator, adapter=name)
    return model


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt with its answers, after the frozen lower layers, which run once however often it is scored."""

    bundle: Bundle
    features: Float[Tensor, "tokens hidden"]
    """One row per token; what all prompts begin with is left out."""

    def __len__(self) -> int:
        """Number of tokens that the upper layers run on."""
        return len(self.features)

    def select(self, answers: Sequence[int]) -> "Prepared":
        """Keep some of the answers, in the order given; one may be kept twice. No answer's features know another's."""
        ends = [len(self)]
        for tokens in reversed(self.bundle.answers):
            ends.insert(0, ends[0] - len(tokens))
        parts = [self.features[: ends[0]], *(self.features[ends[i] : ends[i + 1]] for i in answers)]
        return Prepared(Bundle(self.bundle.prompt, [self.bundle.answers[i] for i in answers]), torch.cat(parts))


class RewardBackbone:
    """A reward model whose frozen lower layers run once per text, whichever adapter is active above them."""

    def __init__(
        self, model: PeftModel, tokenizer: PreTrainedTokenizerBase, *, adapted_layers: int, limit: int
    ) -> None:
        """Split `model` below its adapters; answers are cut on the right, at `limit` tokens."""
        self.model, self.tokenizer = model, tokenizer
        self.adapted_layers, self.limit = adapted_layers, limit
        self._decoder = open_decoder(model, upper_layers=adapted_layers)
        self._shared = preamble_length(tokenizer)
        self._context = context_length(model.config) or _UNBOUNDED
        self._per_pass = _TOKENS_PER_PASS[model.device.type]

    def prepare(self, prompts: Sequence[str], answers: Sequence[Sequence[str]]) -> list[Prepared]:
        """Tokenise each prompt with its answers and run the frozen lower layers over them once.

        Raises:
            DataError: a prompt leaves no room for an answer.
        """
        bundles = self._bundles(prompts, answers)
        lengths = [len(bundle) - self._shared for bundle in bundles]
        found: dict[int, Tensor] = {}
        for group in micro_batches(lengths, self._per_pass):
            hidden = self._decoder.features(self._pack([bundles[i] for i in group]))
            found |= {i: hidden[row, : lengths[i]].clone() for row, i in enumerate(group)}
        return [Prepared(bundle, found[i]) for i, bundle in enumerate(bundles)]

    def cut(self, prompts: Sequence[str], responses: Sequence[str]) -> list[bool]:
        """Tell of which answers only the beginning is scored: those beyond the limit, or beyond the context."""
        room = [self._context - len(prompt) for prompt in prompt_ids(self.tokenizer, prompts)]
        lengths = [len(ids) for ids in response_ids(self.tokenizer, responses, limit=self._context + 1)]
        return [length > min(self.limit, left) for length, left in zip(lengths, room, strict=True)]

    def trimmed(self, responses: Sequence[str]) -> list[bool]:
        """Tell which answers are scored without the markers of a turn, or the thoughts, that they hold."""
        bare = bare_answers(self.tokenizer, responses)
        return [one != other for one, other in zip(bare, responses, strict=True)]

    def scored_tokens(self, responses: Sequence[str]) -> list[int]:
        """Count the tokens of each answer that are scored: all up to the limit."""
        return [len(ids) for ids in response_ids(self.tokenizer, responses, limit=self.limit)]

    def rewards(self, rows: Sequence[Prepared]) -> Float[Tensor, " answers"]:
        """Run the upper layers and the head of the active adapter: the raw reward at each answer's last token."""
        packed = self._pack([row.bundle for row in rows])
        states = self._decoder.states(pad_features([row.features for row in rows]), packed)
        return cast(Any, self.model.get_base_model()).score(states.flatten(0, 1)[packed.last].float())[:, 0]

    @torch.no_grad()
    def rewards_in_passes(self, rows: Sequence[Prepared]) -> list[Float[Tensor, " answers"]]:
        """Compute `rewards` of many rows, a few thousand tokens at a time; one tensor per row."""
        found: dict[int, Tensor] = {}
        for group in micro_batches([len(row) for row in rows], self._per_pass):
            rewards = self.rewards([rows[i] for i in group]).float().cpu()
            found |= dict(zip(group, rewards.split([len(rows[i].bundle.answers) for i in group]), strict=True))
        return [found[i] for i in range(len(rows))]

    def _bundles(self, prompts: Sequence[str], answers: Sequence[Sequence[str]]) -> list[Bundle]:
        flat = response_ids(self.tokenizer, [text for group in answers for text in group], limit=self.limit)
        tokens = iter(flat)
        bundles: list[Bundle] = []
        for prompt, group in zip(prompt_ids(self.tokenizer, prompts), answers, strict=True):
            room = self._context - len(prompt)
            if room < 1:
                raise DataError(
                    f"a prompt of {len(prompt)} tokens leaves no room for an answer in the backbone's context of "
                    f"{self._context}; shorten it; a run drops such prompts below sources.max_prompt_characters"
                )
            bundles.append(Bundle(prompt, [next(tokens)[:room] for _ in group]))
        return bundles

    def _pack(self, bundles: Sequence[Bundle]) -> Packed:
        return pack(bundles, pad=padding_id(self.tokenizer), shared=self._shared, device=self.model.device)
