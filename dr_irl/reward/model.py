"""One reward model: LoRA on the topmost layers of a frozen backbone, and a scalar head."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.language.adapters import draw_lora_weights
from dr_irl.language.chat import padding_id, preamble_length, prompt_ids, response_ids
from dr_irl.language.masks import micro_batches
from dr_irl.language.packing import Bundle, Packed, pack
from dr_irl.language.split import SplitDecoder, pad_features, topmost_layers

_TOKENS_PER_PASS = 4096


def add_reward_adapter(
    backbone: PreTrainedModel,
    name: str,
    *,
    rank: int,
    adapted_layers: int,
    target_modules: Sequence[str],
    generator: torch.Generator,
) -> PeftModel:
    """Put a fresh adapter and head on a backbone; the head starts at zero, so every reward does."""
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=rank,
        lora_alpha=2 * rank,
        target_modules=list(target_modules),
        layers_to_transform=topmost_layers(backbone, adapted_layers),
        layers_pattern="layers",
        modules_to_save=["score"],
    )
    model = get_peft_model(backbone, config, adapter_name=name)
    draw_lora_weights(model, generator)
    return model


class RewardBackbone:
    """A reward model whose frozen lower layers run once per text, whichever adapter is active above them."""

    def __init__(
        self, model: PeftModel, tokenizer: PreTrainedTokenizerBase, *, adapted_layers: int, limit: int
    ) -> None:
        """Split `model` below its adapters; answers are cut at `limit` tokens."""
        self.model, self.tokenizer, self.limit = model, tokenizer, limit
        self._decoder = SplitDecoder(model, upper_layers=adapted_layers)
        self._shared = preamble_length(tokenizer)

    def bundles(self, prompts: Sequence[str], answers: Sequence[Sequence[str]]) -> list[Bundle]:
        """Tokenise each prompt with its answers."""
        flat = response_ids(self.tokenizer, [text for group in answers for text in group], limit=self.limit)
        tokens = iter(flat)
        return [
            Bundle(prompt, [next(tokens) for _ in group])
            for prompt, group in zip(prompt_ids(self.tokenizer, prompts), answers, strict=True)
        ]

    def features(self, bundles: Sequence[Bundle]) -> list[Float[Tensor, "_ hidden"]]:
        """Run the frozen lower layers over each bundle once; what all prompts share is left out."""
        found: dict[int, Tensor] = {}
        for group in micro_batches(self._lengths(bundles), _TOKENS_PER_PASS):
            hidden = self._decoder.features(self._pack([bundles[i] for i in group]))
            found |= {i: hidden[row, : len(bundles[i]) - self._shared].clone() for row, i in enumerate(group)}
        return [found[i] for i in range(len(bundles))]

    def rewards(
        self, bundles: Sequence[Bundle], features: Sequence[Float[Tensor, "_ hidden"]]
    ) -> Float[Tensor, " answers"]:
        """Run the upper layers and the head of the active adapter: the raw reward at each answer's last token."""
        packed = self._pack(bundles)
        states = self._decoder.states(pad_features(features), packed)
        return cast(Any, self.model.get_base_model()).score(states.flatten(0, 1)[packed.last].float())[:, 0]

    @torch.no_grad()
    def rewards_in_passes(
        self, bundles: Sequence[Bundle], features: Sequence[Float[Tensor, "_ hidden"]]
    ) -> list[Float[Tensor, " answers"]]:
        """Compute `rewards` for many bundles, a few thousand tokens at a time; one tensor per bundle."""
        found: dict[int, Tensor] = {}
        for group in micro_batches(self._lengths(bundles), _TOKENS_PER_PASS):
            rewards = self.rewards([bundles[i] for i in group], [features[i] for i in group]).float().cpu()
            found |= dict(zip(group, rewards.split([len(bundles[i].answers) for i in group]), strict=True))
        return [found[i] for i in range(len(bundles))]

    def _pack(self, bundles: Sequence[Bundle]) -> Packed:
        return pack(bundles, pad=padding_id(self.tokenizer), shared=self._shared, device=self.model.device)

    def _lengths(self, bundles: Sequence[Bundle]) -> list[int]:
        return [len(bundle) - self._shared for bundle in bundles]
