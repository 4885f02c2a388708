"""The work that grpo.py measures: its models and prompts, our side of a step, and the arithmetic that a step needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import reward_work
import torch
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.alignment import Alignment
from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.config import Settings
from dr_irl.evaluation.judges import JUDGES
from dr_irl.language.adapters import add_policy_adapter, merge_adapter_into, share_weights
from dr_irl.language.chat import preamble_length, prompt_ids, response_ids
from dr_irl.language.load import load_tokenizer
from dr_irl.language.sampling import CachedPrefixSampler
from dr_irl.policy.rollouts import TrainingPrompt
from dr_irl.policy.step_log import LoopState
from dr_irl.profile import load_settings
from dr_irl.reward.panel import RewardPanel
from dr_irl.scaling.hardness import distances
from dr_irl.seeding import torch_generator
from tasks.models import base_policy, text_encoder, unit_embeddings

BUNDLED = "bundled:smollm2-135m-instruct"
RANDOM_MODELS: Mapping[str, dict[str, Any]] = {
    "random-0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    "random-tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 24,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}
"""Made on the spot with the bundled tokenizer: the shape of Qwen2 0.5B, and one that shows in seconds that all runs."""
WEIGHT_STD = 0.02
"""Of all LoRA weights: a policy that is not its reference, so that the KL divergence is not zero."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How much one step samples."""

    prompts: int
    group: int
    tokens: int
    """Of every completion: none ends before."""

    @property
    def completions(self) -> int:
        """Completions of a step."""
        return self.prompts * self.group

    def __str__(self) -> str:
        """Name the shape in results."""
        return f"{self.prompts} prompts x {self.group} completions x {self.tokens} tokens"


def shape_settings(shape: Shape, model: str, device: str, dtype: str) -> Settings:
    """Return profile laptop for one step of that shape; on a GPU a whole batch is one pass."""
    overrides: dict[str, Any] = {
        "models.policy": model,
        "models.device": device,
        "models.dtype": dtype,
        "completions.max_new_tokens": shape.tokens,
        "hardness.source": "policy",
        "grpo.steps": 1,
        "grpo.prompts_per_step": shape.prompts,
        "grpo.group_size": shape.group,
        "grpo.top_up": 0,
    }
    if device != "cpu":
        overrides["grpo.micro_batch_tokens"] = 2**17
    return load_settings("laptop", overrides)


def save_random_model(name: str, folder: Path) -> str:
    """Save a model of random weights with the bundled tokenizer; returns what settings call it."""
    tokenizer = load_tokenizer(BUNDLED)
    config = LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **RANDOM_MODELS[name])
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_reward_models(settings: Settings, folder: Path) -> dict[str, Path]:
    """Save reward models of random weights, where the folder has none yet; the guard has the weights of the first."""
    folders = {category: folder / category for category in HARM_CATEGORIES}
    if not folder.exists():
        reward_work.save_adapters(reward_work.load_ours(settings), folder)
    return folders | {BENIGN: folders[HARM_CATEGORIES[0]]}


def step_prompts(settings: Settings) -> list[TrainingPrompt]:
    """Draw just the prompts of one step, harm categories in turn, so that every step of either side has these."""
    grpo = settings.grpo
    benign = round(grpo.benign_ratio * grpo.prompts_per_step)
    turns = [sorted(HARM_CATEGORIES)[turn % len(HARM_CATEGORIES)] for turn in range(grpo.prompts_per_step - benign)]
    found = reward_work.demonstrations(-(-grpo.prompts_per_step // len(HARM_CATEGORIES)))
    return [
        TrainingPrompt(
            id=example.id,
            text=example.prompt,
            category=label,
            demonstration=str(example.response),
            distance=0.5,
            category_distance=0.5,
        )
        for label in [*turns, *[BENIGN] * benign]
        for example in [found[label].pop()]
    ]


def load_endless_policy(settings: Settings) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the frozen policy with an end token beyond its vocabulary: no completion ends before the limit."""
    model, tokenizer = base_policy(settings)
    tokenizer.add_special_tokens({"eos_token": "<|never|>"})
    if int(tokenizer.eos_token_id) < model.get_input_embeddings().num_embeddings:  # pyright: ignore
        raise SystemExit("the model's vocabulary has room for the end token that it must not sample; name another")
    return model, tokenizer


def draw_adapter(model: torch.nn.Module) -> None:
    """Draw all LoRA weights, in the order of their names, which is the same on both sides."""
    generator = torch_generator(0, "benchmark policy adapter")
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            weights = torch.randn(parameter.shape, generator=generator) * WEIGHT_STD
            parameter.data.copy_(weights)


@dataclass(frozen=True, slots=True)
class Native:
    """Our side: seven reward models, the guard's, the text encoder and a policy, ready to take the same step again."""

    settings: Settings
    tokenizer: PreTrainedTokenizerBase
    prompts: list[TrainingPrompt]
    policy: PeftModel
    sampled: PreTrainedModel
    panel: RewardPanel
    loop: Alignment
    sampler: CachedPrefixSampler
    sampled_tokens: list[int]
    """Of every batch that was sampled."""

    def step(self) -> dict[str, float]:
        """Take a step as `tasks.alignment` does; returns the seconds of its parts."""
        self.loop.state = LoopState()
        state = self.loop.run(
            self.prompts,
            self.sampler,
            refresh_sampler=lambda: merge_adapter_into(self.sampled, self.policy),
            judge=JUDGES[self.settings.judge],
            report=lambda _: None,
        )
        return {r.name.removeprefix("seconds_"): r.value for r in state.logged if r.name.startswith("seconds_")}

    def sample_texts(self) -> list[list[str]]:
        """Sample the completions of one step: a list for each prompt."""
        merge_adapter_into(self.sampled, self.policy)
        samples = self.sampler.sample(
            [prompt.text for prompt in self.prompts],
            per_prompt=self.settings.grpo.group_size,
            generator=torch_generator(0, "benchmark completions"),
        )
        return [[sample.text for sample in group] for group in samples]


def load_native(settings: Settings, folders: Mapping[str, Path]) -> Native:
    """Load our side."""
    base, tokenizer = load_endless_policy(settings)
    sampled = share_weights(base)
    policy = add_policy_adapter(
        base,
        rank=settings.grpo.lora_rank,
        adapted_layers=settings.grpo.adapted_layers,
        target_modules=settings.grpo.target_modules,
        generator=torch_generator(0, "benchmark policy adapter"),
    )
    draw_adapter(policy)
    panel = RewardPanel.assemble(folders, device=settings.models.device)
    tokens: list[int] = []
    sampler = CachedPrefixSampler(
        sampled,
        tokenizer,
        max_new_tokens=settings.completions.max_new_tokens,
        temperature=settings.grpo.temperature,
        rows_at_once=settings.grpo.prompts_per_step * settings.grpo.group_size,
        report=tokens.append,
    )
    encode = unit_embeddings(text_encoder(settings))
    loop = Alignment(
        policy,
        tokenizer,
        panel,
        settings.grpo,
        settings.scaling,
        max_tokens=settings.completions.max_new_tokens,
        seed=settings.seed,
        # The same step comes again: with embeddings kept, demonstrations would be encoded in the first one only.
        distances=partial(distances, encode=encode, level=settings.hardness.level),
    )
    return Native(settings, tokenizer, step_prompts(settings), policy, sampled, panel, loop, sampler, tokens)


def needed_gflop(native: Native) -> dict[str, float]:
    """Count what the parts of a step need; see the docstring of grpo.py."""
    settings, model = native.settings, native.sampled
    shared, layers = preamble_length(native.tokenizer), reward_work.layer_weights(model)
    ids = prompt_ids(native.tokenizer, [prompt.text for prompt in native.prompts])
    prompt_tokens = sum(len(row) - shared for row in ids)
    completions = len(ids) * settings.grpo.group_size
    drawn = completions * settings.completions.max_new_tokens
    read = prompt_tokens + drawn - completions  # nothing follows from the last token of a completion
    predicted = drawn - completions + len(ids)  # the first tokens of a group are predicted from one state
    head = predicted * model.get_output_embeddings().weight.numel()  # pyright: ignore
    sampling = 2 * sum(layers) * read + 2 * head

    at = max(0, len(layers) - settings.grpo.adapted_layers)
    upper, adapter = sum(layers[at:]), sum(p.numel() for p in native.policy.parameters() if p.requires_grad)
    frozen = sum(reward_work.layer_weights(model, name)[at] for name in ("q_proj", "k_proj", "v_proj"))
    forward = sum(layers[:at]) + upper + (upper + adapter)  # the lower layers once for policy and reference
    learning = 2 * (forward + upper - frozen + 2 * adapter) * read + 3 * 2 * head

    limit = settings.completions.max_new_tokens
    answers = response_ids(native.tokenizer, [prompt.demonstration for prompt in native.prompts], limit=limit)
    reward = sum(layers[: settings.reward.depth]) + reward_work.adapter_weights(model, settings)
    scoring = 2 * reward * (prompt_tokens + drawn + sum(map(len, answers)))
    return {"sampling": sampling / 1e9, "scoring": scoring / 1e9, "learning": learning / 1e9}
