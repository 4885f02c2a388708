"""The reward models of all categories behind one `score`, over one resident backbone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.errors import DataError, DivergenceError
from dr_irl.language.adapters import save_adapter
from dr_irl.language.packing import Bundle
from dr_irl.reward.model import RewardBackbone
from dr_irl.reward.train import Calibration

CALIBRATION_NAME = "calibration.json"


def save_reward_model(model: PeftModel, category: str, calibration: Calibration, folder: Path) -> None:
    """Save one category's adapter, head and calibration."""
    save_adapter(model, category, folder)
    (folder / CALIBRATION_NAME).write_text(json.dumps(asdict(calibration), indent=2))


class RewardPanel:
    """Scores each answer with the reward model of its prompt's own category."""

    def __init__(self, backbone: RewardBackbone, calibrations: Mapping[str, Calibration]) -> None:
        """Hold a backbone with one adapter per category, and how each one's rewards are made comparable."""
        self._backbone, self._calibrations = backbone, dict(calibrations)

    @classmethod
    def load(
        cls,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        folders: Mapping[str, Path],
        *,
        adapted_layers: int,
        limit: int,
    ) -> "RewardPanel":
        """Load the adapters of all categories onto one backbone.

        Args:
            backbone: from `load_reward_backbone`; it is modified: the adapters are put on it.
            tokenizer: the backbone's.
            folders: category -> folder written by `save_reward_model`.
            adapted_layers: topmost layers that carry adapters.
            limit: answers are cut at this many tokens.
        """
        categories = sorted(folders)
        first, *others = categories
        model = PeftModel.from_pretrained(backbone, folders[first], adapter_name=first)
        for category in others:
            model.load_adapter(str(folders[category]), adapter_name=category)
        calibrations = {
            category: Calibration(**json.loads((folders[category] / CALIBRATION_NAME).read_text()))
            for category in categories
        }
        return cls(RewardBackbone(model.eval(), tokenizer, adapted_layers=adapted_layers, limit=limit), calibrations)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that have a reward model."""
        return tuple(self._calibrations)

    def score(
        self, categories: Sequence[str], prompts: Sequence[str], responses: Sequence[str]
    ) -> Float[Tensor, " rows"]:
        """Calibrated reward of each answer under its category's model; each text runs once.

        Raises:
            DataError: a category has no reward model.
            DivergenceError: a reward is not finite.
        """
        return self._score(prompts, responses, [categories])[0]

    def cross_score(self, prompts: Sequence[str], responses: Sequence[str]) -> dict[str, Float[Tensor, " rows"]]:
        """Calibrated reward of every answer under every model; the frozen lower layers run once."""
        routes = [[category] * len(prompts) for category in self.categories]
        return dict(zip(self.categories, self._score(prompts, responses, routes), strict=True))

    def _score(
        self, prompts: Sequence[str], responses: Sequence[str], routes: Sequence[Sequence[str]]
    ) -> list[Float[Tensor, " rows"]]:
        """Score the same texts once per route; answers to one prompt share its computation."""
        unknown = sorted({name for route in routes for name in route} - set(self._calibrations))
        if unknown:
            raise DataError(f"no reward model for {', '.join(unknown)}; there are {', '.join(self.categories)}")
        rows_by_prompt: dict[tuple[str, ...], list[int]] = {}  # the same prompt under two models is two prompts
        for row, key in enumerate(zip(prompts, *routes, strict=True)):
            rows_by_prompt.setdefault(key, []).append(row)
        groups = list(rows_by_prompt.values())
        texts = [prompts[rows[0]] for rows in groups]
        bundles = self._backbone.bundles(texts, [[responses[row] for row in rows] for rows in groups])
        features = self._backbone.features(bundles)
        return [self._route(route, groups, bundles, features) for route in routes]

    def _route(
        self, route: Sequence[str], groups: list[list[int]], bundles: Sequence[Bundle], features: Sequence[Tensor]
    ) -> Float[Tensor, " rows"]:
        rewards = torch.zeros(len(route))
        for category in sorted(set(route)):
            chosen = [g for g, rows in enumerate(groups) if route[rows[0]] == category]
            self._backbone.model.set_adapter(category)
            raw = self._backbone.rewards_in_passes([bundles[g] for g in chosen], [features[g] for g in chosen])
            calibration = self._calibrations[category]
            for g, values in zip(chosen, raw, strict=True):
                rewards[groups[g]] = (values - calibration.mean) / calibration.std
        if not torch.isfinite(rewards).all():
            raise DivergenceError("a reward is not finite; lower reward.learning_rate and train the rewards again")
        return rewards
