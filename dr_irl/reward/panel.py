"""The reward models of all categories behind one `score`, over one resident backbone."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from dr_irl.artifacts.address import S3Address, parse_address
from dr_irl.errors import DataError, DivergenceError, ModelError
from dr_irl.language.load import load_reward_backbone, load_tokenizer
from dr_irl.language.resolve import download_tree
from dr_irl.reward.model import Prepared, RewardBackbone
from dr_irl.reward.outcome import Calibration
from dr_irl.reward.saved import CARD_NAME, Card, check_head, load_adapters, probe_rewards, read_card, weights_digest

PROBE_TOLERANCE = 0.05
"""In calibrated rewards, whose standard deviation is 1: laptop's models move by 0.017 from bfloat16 to float32."""


class RewardPanel:
    """Scores each answer with the reward model of its prompt's own category."""

    def __init__(self, backbone: RewardBackbone, calibrations: Mapping[str, Calibration]) -> None:
        """Hold a backbone with one adapter per category, and how each one's rewards are made comparable."""
        self._backbone, self._calibrations = backbone, dict(calibrations)

    @classmethod
    def load(
        cls,
        uri: str | Path,
        *,
        model: str | None = None,
        revision: str | None = None,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> "RewardPanel":
        """Load a panel from where it was saved, with the backbone that it names.

        Args:
            uri: a folder or `s3://bucket/prefix` that holds one folder per category, or one reward model.
            model: what to load the backbone from, where that is not what it was called when the panel was trained.
            revision: of `model`.
            device: `cpu`, `cuda` or `cuda:N`.
            dtype: number format of the backbone; by default that of training.

        Raises:
            ModelError: there is no panel, its models are for different backbones or for another one than was loaded,
                one has no head, or one does not score as it did when it was saved.
        """
        with ExitStack() as stack:
            folder = parse_address(str(uri), "panel", ModelError)
            if isinstance(folder, S3Address):
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dr-irl-panel-")))
                download_tree(str(uri), folder)
            return cls.assemble(_category_folders(folder), model=model, revision=revision, device=device, dtype=dtype)

    @classmethod
    def assemble(
        cls,
        folders: Mapping[str, Path],
        *,
        model: str | None = None,
        revision: str | None = None,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> "RewardPanel":
        """Load reward models that were saved one by one: name -> folder; see `load`."""
        cards = {name: read_card(folder) for name, folder in folders.items()}
        shared = _common_card(cards)
        for folder in folders.values():
            check_head(folder)
        origin = shared.origin
        if model is not None:
            origin = replace(origin, model=model, revision=revision)
        base = load_reward_backbone(
            origin.model,
            origin.revision,
            depth=origin.depth,
            dtype=dtype or getattr(torch, origin.dtype),
            device=device,
        )
        if (digest := weights_digest(base)) != origin.digest:
            raise ModelError(
                f"the reward models were trained on other weights than {origin.model!r} has now "
                f"({digest[:8]} instead of {origin.digest[:8]}); name the right backbone, or train them again"
            )
        backbone = RewardBackbone(
            load_adapters(base, folders),
            load_tokenizer(origin.model, origin.revision, origin.rendering),
            adapted_layers=shared.adapted_layers,
            limit=shared.max_answer_tokens,
        )
        _check_probes(backbone, cards)
        return cls(backbone, {name: card.calibration for name, card in cards.items()})

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that have a reward model."""
        return tuple(self._calibrations)

    def score(
        self, categories: Sequence[str], prompts: Sequence[str], responses: Sequence[str]
    ) -> Float[Tensor, " rows"]:
        """Calibrated reward of each answer under its category's model; each text runs once.

        An empty answer is scored like any other. Of an answer longer than the limit the beginning is scored: see `cut`.
        What a thought or a marker of the turn says is not scored: see `trimmed`.

        Raises:
            DataError: a category has no reward model.
            DivergenceError: a reward is not finite.
        """
        return self._score(prompts, responses, [categories])[0]

    def cross_score(self, prompts: Sequence[str], responses: Sequence[str]) -> dict[str, Float[Tensor, " rows"]]:
        """Calibrated reward of every answer under every model; the frozen lower layers run once."""
        routes = [[category] * len(prompts) for category in self.categories]
        return dict(zip(self.categories, self._score(prompts, responses, routes), strict=True))

    def cut(self, prompts: Sequence[str], responses: Sequence[str]) -> list[bool]:
        """Tell of which answers only the beginning is scored: those beyond the token limit, or the context."""
        return self._backbone.cut(prompts, responses)

    def trimmed(self, responses: Sequence[str]) -> list[bool]:
        """Tell which answers are scored without the markers of a turn, or the thoughts, that they hold."""
        return self._backbone.trimmed(responses)

    def scored_tokens(self, responses: Sequence[str]) -> list[int]:
        """Count the tokens of each answer that are scored: all up to the limit."""
        return self._backbone.scored_tokens(responses)

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
        prepared = self._backbone.prepare(texts, [[responses[row] for row in rows] for rows in groups])
        return [self._route(route, groups, prepared) for route in routes]

    def _route(
        self, route: Sequence[str], groups: list[list[int]], prepared: Sequence[Prepared]
    ) -> Float[Tensor, " rows"]:
        rewards = torch.zeros(len(route))
        for category in sorted(set(route)):
            chosen = [g for g, rows in enumerate(groups) if route[rows[0]] == category]
            self._backbone.model.set_adapter(category)
            raw = self._backbone.rewards_in_passes([prepared[g] for g in chosen])
            calibration = self._calibrations[category]
            for g, values in zip(chosen, raw, strict=True):
                rewards[groups[g]] = (values - calibration.mean) / calibration.std
        if not torch.isfinite(rewards).all():
            raise DivergenceError("a reward is not finite; lower reward.learning_rate and train the rewards again")
        return rewards


def _category_folders(folder: Path) -> dict[str, Path]:
    """Find the reward models of a panel: one folder each, or the folder itself."""
    if (folder / CARD_NAME).exists():
        return {read_card(folder).category: folder}
    found = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{CARD_NAME}"))}
    if not found:
        raise ModelError(
            f"{folder} holds no reward model: there is no {CARD_NAME} in it, nor in a folder of it; name the artifact "
            "`panel` of a run, or the folder `panel` of its output"
        )
    return found


def _common_card(cards: Mapping[str, Card]) -> Card:
    """Return what all cards have in common, or say which two differ."""
    (first, card), *others = cards.items()
    for name, other in others:
        for part in ("origin", "adapted_layers", "max_answer_tokens"):
            if (one := getattr(card, part)) != (two := getattr(other, part)):
                raise ModelError(
                    f"the reward models {first} and {name} do not belong together: their {part} is {one} and {two}; "
                    "train them with the same settings"
                )
    return card


def _check_probes(backbone: RewardBackbone, cards: Mapping[str, Card]) -> None:
    """Compare what each model says of fixed texts with what it said when it was saved."""
    for name, card in cards.items():
        backbone.model.set_adapter(name)
        rewards = probe_rewards(backbone, card.calibration)
        worst = max(abs(now - then) for now, then in zip(rewards, card.probe, strict=True))
        if not worst <= PROBE_TOLERANCE or not math.isfinite(worst):
            raise ModelError(
                f"reward model {name} scores fixed texts {worst:.3g} off what it scored when it was saved (allowed: "
                f"{PROBE_TOLERANCE}); its files are damaged or of another version, train it again"
            )
