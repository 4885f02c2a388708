"""The work that reward.py measures: its texts, our side of it, and the arithmetic that it needs at least."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.config import Settings
from dr_irl.demonstrations.sources import SEED, load_examples
from dr_irl.language.adapters import share_weights
from dr_irl.language.load import load_reward_backbone, load_tokenizer
from dr_irl.records import Example
from dr_irl.reward.model import RewardBackbone, add_reward_adapter
from dr_irl.reward.outcome import Calibration, RewardTraining
from dr_irl.reward.pairs import PreferenceRow
from dr_irl.reward.panel import RewardPanel
from dr_irl.reward.saved import Origin, save_reward_model, weights_digest
from dr_irl.reward.train import prepare_rows, train_reward_model
from dr_irl.seeding import torch_generator

GROUP = 4
"""Answers per prompt, as GRPO of profile laptop scores them."""
THREADS = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Answers to score, each with its prompt and its prompt's category."""

    categories: list[str]
    prompts: list[str]
    answers: list[str]


@dataclass(frozen=True, slots=True)
class Ours:
    """What our side has loaded before a clock starts."""

    settings: Settings
    backbone: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


Comparisons = Sequence[tuple[str, str, str]]
"""(prompt, demonstration, worse answer)."""
Pairs = Mapping[str, Comparisons]
"""Category -> its pairs."""


def demonstrations(per_category: int) -> dict[str, list[Example]]:
    """Draw demonstrations from the seed data; there are as many of `benign` as of all other labels."""
    examples, _ = load_examples([SEED], max_prompt_characters=4000, max_bad_rows=0.0)
    taken: dict[str, list[Example]] = {}
    for label in (*HARM_CATEGORIES, BENIGN):
        own = [e for e in examples if e.category == label and e.response and e.split == "train"]
        order = torch.randperm(len(own), generator=torch_generator(0, "benchmark", label)).tolist()
        wanted = per_category * (len(HARM_CATEGORIES) if label == BENIGN else 1)
        if wanted > len(own):
            raise SystemExit(f"{wanted} rows of {label} are asked for, and the seed data have {len(own)}")
        taken[label] = [own[i] for i in order[:wanted]]
    return taken


def cut(tokenizer: PreTrainedTokenizerBase, example: Example, limit: int) -> str:
    """Cut a demonstration so that with its end token it fits the limit of completions."""
    tokens = tokenizer(str(example.response), add_special_tokens=False)["input_ids"][: limit - 1]
    return str(tokenizer.decode(tokens))


def mixed_batch(tokenizer: PreTrainedTokenizerBase, prompts: int, limit: int) -> Batch:
    """Lay out answers as GRPO asks for rewards: categories alternate, and each prompt has refusals and other answers.

    Args:
        tokenizer: what cuts the answers.
        prompts: per category, with `GROUP` answers each.
        limit: tokens of an answer, its end included.
    """
    found = demonstrations(prompts)
    text = {label: [cut(tokenizer, e, limit) for e in examples] for label, examples in found.items()}
    batch = Batch([], [], [])
    for place in range(prompts):
        for number, category in enumerate(HARM_CATEGORIES):
            at, refusals, ordinary = place * len(HARM_CATEGORIES) + number, text[category], text[BENIGN]
            batch.categories.extend([category] * GROUP)
            batch.prompts.extend([found[category][place].prompt] * GROUP)
            batch.answers.extend([refusals[place], refusals[place - 1], ordinary[at], ordinary[at - 1]])
    return batch


def training_pairs(tokenizer: PreTrainedTokenizerBase, rows: int, limit: int) -> Pairs:
    """Pair every demonstration with one ordinary answer."""
    found = demonstrations(rows)
    worse = iter([cut(tokenizer, e, limit) for e in found[BENIGN]])
    return {c: [(e.prompt, cut(tokenizer, e, limit), next(worse)) for e in found[c]] for c in HARM_CATEGORIES}


def load_ours(settings: Settings) -> Ours:
    """Load the frozen backbone and the tokenizer."""
    models = settings.models
    backbone = load_reward_backbone(
        models.policy, depth=settings.reward.depth, dtype=getattr(torch, models.number_format), device=models.device
    )
    return Ours(settings, backbone, load_tokenizer(models.policy))


def split_backbone(ours: Ours, *names: str) -> RewardBackbone:
    """Put fresh adapters on a copy of the backbone that shares its weights."""
    reward = ours.settings.reward
    model: Any = share_weights(ours.backbone)
    for name in names:
        model = add_reward_adapter(
            model,
            name,
            rank=reward.lora_rank,
            adapted_layers=reward.adapted_layers,
            target_modules=reward.target_modules,
            generator=torch_generator(0, "benchmark adapter", name),
        )
    limit = ours.settings.completions.max_new_tokens
    return RewardBackbone(model, ours.tokenizer, adapted_layers=reward.adapted_layers, limit=limit)


def save_adapters(ours: Ours, folder: Path) -> dict[str, Path]:
    """Save a reward model of random weights for every category; rewards are left as they are."""
    folders = {category: folder / category for category in HARM_CATEGORIES}
    models, reward = ours.settings.models, ours.settings.reward
    origin = Origin(models.policy, None, reward.depth, models.number_format, weights_digest(ours.backbone))
    for category, path in folders.items():
        backbone = split_backbone(ours, category)
        generator = torch_generator(0, "benchmark weights", category)
        for name, parameter in sorted(backbone.model.named_parameters()):
            if "lora_B" in name or "modules_to_save" in name:
                torch.nn.init.normal_(parameter, std=0.05, generator=generator)
        save_reward_model(backbone, category, Calibration(mean=0.0, std=1.0), origin, path)
    return folders


def load_panel(ours: Ours, folders: Mapping[str, Path]) -> RewardPanel:
    """Load reward models onto one backbone, with a tokenizer and weights of their own."""
    return RewardPanel.assemble(folders, device=ours.settings.models.device)


def preference_rows(pairs: Sequence[tuple[str, str, str]]) -> list[PreferenceRow]:
    """With one worse answer the loss is TRL's."""
    return [PreferenceRow(prompt, chosen, (rejected,), ()) for prompt, chosen, rejected in pairs]


def fitted(ours: Ours, backbone: RewardBackbone, name: str, pairs: Comparisons, prepared: Any = None) -> float:
    """Train the active reward model of ours, through all epochs; returns the mean loss."""
    reward = ours.settings.reward
    options = reward.model_copy(
        update={"objective": "ml_irl", "beta": 1.0, "rounds": 1, "draws": None, "patience": reward.epochs}
    )
    trained: RewardTraining = train_reward_model(
        backbone,
        preference_rows(pairs),
        options,
        generator=torch_generator(0, "benchmark training", name),
        report=lambda _: None,
        prepared=prepared,
    )
    return sum(trained.losses) / len(trained.losses)


def train_one(ours: Ours, name: str, pairs: Comparisons) -> float:
    """Train one reward model of ours on a backbone of its own."""
    return fitted(ours, split_backbone(ours, name), name, pairs)


def train_seven(ours: Ours, pairs: Pairs) -> list[float]:
    """Train a reward model per category as the DAG does: two at once on a thread each, an odd last one on all."""
    *beside, last = pairs
    alone = [] if len(beside) % THREADS else [last]
    with ThreadPoolExecutor(THREADS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        names = beside if alone else [*beside, last]
        losses = list(pool.map(lambda name: train_one(ours, name, pairs[name]), names))
    return losses + [train_one(ours, name, pairs[name]) for name in alone]


def train_jointly(ours: Ours, pairs: Pairs) -> list[float]:
    """Train a reward model per category over one backbone, whose lower layers see all rows in one pass."""
    backbone = split_backbone(ours, *pairs)
    prepared = iter(prepare_rows(backbone, [row for own in pairs.values() for row in preference_rows(own)]))
    losses: list[float] = []
    for name, own in pairs.items():
        backbone.model.set_adapter(name)
        losses.append(fitted(ours, backbone, name, own, [next(prepared) for _ in own]))
    return losses


def trained_rows(settings: Settings, rows: int) -> int:
    """Count the rows that training leaves after some are held out."""
    return rows - max(1, round(settings.reward.validation_share * rows))


def layer_weights(backbone: PreTrainedModel, name: str = "") -> list[int]:
    """Count the matrix weights of every layer, or of its matrices of that kind."""
    decoder: Any = backbone.get_decoder()
    return [
        sum(m.weight.numel() for path, m in layer.named_modules() if isinstance(m, torch.nn.Linear) and name in path)
        for layer in decoder.layers
    ]


def adapter_weights(backbone: PreTrainedModel, settings: Settings) -> int:
    """Count the weights of one adapter."""
    decoder: Any = backbone.get_decoder()
    return sum(
        settings.reward.lora_rank * (m.in_features + m.out_features)
        for layer in decoder.layers[-settings.reward.adapted_layers :]
        for path, m in layer.named_modules()
        if isinstance(m, torch.nn.Linear) and path.split(".")[-1] in settings.reward.target_modules
    )


def distinct_tokens(ours: Ours, groups: Mapping[str, Sequence[str]]) -> int:
    """Count tokens, each prompt once and what all prompts begin with left out."""
    return sum(map(len, split_backbone(ours, "count").prepare(list(groups), list(groups.values()))))


def scoring_gflop(ours: Ours, batch: Batch) -> float:
    """Count what scoring a batch needs."""
    groups: dict[str, list[str]] = {}
    for prompt, answer in zip(batch.prompts, batch.answers, strict=True):
        groups.setdefault(prompt, []).append(answer)
    weights = sum(layer_weights(ours.backbone)) + adapter_weights(ours.backbone, ours.settings)
    return 2 * weights * distinct_tokens(ours, groups) / 1e9


def training_gflop(ours: Ours, pairs: Pairs) -> float:
    """Count what training on the pairs needs: lower layers once, upper layers every epoch, forwards and backwards."""
    settings, layers = ours.settings, layer_weights(ours.backbone)
    at = len(layers) - settings.reward.adapted_layers
    lower, upper, adapter = sum(layers[:at]), sum(layers[at:]), adapter_weights(ours.backbone, settings)
    frozen = sum(layer_weights(ours.backbone, name)[at] for name in ("q_proj", "k_proj", "v_proj"))
    flop = 0.0
    for rows in pairs.values():
        tokens = distinct_tokens(ours, {prompt: [chosen, rejected] for prompt, chosen, rejected in rows})
        stepped = tokens * settings.reward.epochs * trained_rows(settings, len(rows)) / len(rows)
        flop += 2 * lower * tokens + 2 * (upper + adapter) * stepped + 2 * (upper - frozen + 2 * adapter) * stepped
    return flop / 1e9
