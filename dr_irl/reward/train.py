"""Trains one category's reward model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dr_irl.checkpoint import NO_CHECKPOINTS, Checkpoints, restore_training, trainable_by_name, training_snapshot
from dr_irl.errors import DataError, DivergenceError
from dr_irl.reward.model import RewardBackbone
from dr_irl.reward.objective import minimax_loss, ml_irl_loss, pairwise_loss

MIN_ROWS = 4
_MIN_STD = 1e-3


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """A prompt, its demonstration, and completions that the demonstration should beat."""

    prompt: str
    demonstration: str
    negatives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What makes the rewards of one category comparable with the others': (R - mean) / std."""

    mean: float
    std: float


@dataclass(frozen=True, slots=True)
class Objective:
    """Which loss, with its constants."""

    name: Literal["ml_irl", "pairwise", "minimax"]
    beta: float
    minimax_penalty: float

    def loss(
        self, demonstration: Float[Tensor, " prompts"], completions: Float[Tensor, "prompts n"]
    ) -> Float[Tensor, ""]:
        """Compute the named loss."""
        match self.name:
            case "ml_irl":
                return ml_irl_loss(demonstration, completions, beta=self.beta)
            case "pairwise":
                return pairwise_loss(demonstration, completions, beta=self.beta)
            case "minimax":
                return minimax_loss(demonstration, completions, penalty=self.minimax_penalty)


@dataclass(frozen=True, slots=True)
class RewardTraining:
    """What training left behind besides the weights."""

    calibration: Calibration
    wins: list[bool]
    """On validation rows: did the demonstration beat the completion, pair by pair."""
    losses: list[float] = field(default_factory=list)


def train_reward_model(
    backbone: RewardBackbone,
    rows: Sequence[PreferenceRow],
    *,
    objective: Objective,
    learning_rate: float,
    epochs: int,
    prompts_per_step: int,
    validation_share: float,
    generator: torch.Generator,
    report: Callable[[float], object],
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> RewardTraining:
    """Fit the active adapter and head of `backbone` to the rows by maximum-likelihood inverse RL.

    The frozen lower layers see every text once; each step runs only the layers that carry adapters.

    Args:
        backbone: modified in place: its active adapter and head are trained.
        rows: one category's rows, all with the same number of negatives.
        objective: the loss.
        learning_rate: peak learning rate of AdamW, warmed up over a tenth of the steps, then decayed to zero.
        epochs: passes over the training rows.
        prompts_per_step: prompts in one optimiser step.
        validation_share: share of the rows that is held out for accuracy and calibration.
        generator: splits and shuffles the rows, before the first step and whether or not training goes on from later.
        report: hears the loss after every step.
        checkpoints: says where to go on, if not at the first step, and keeps where training stands.

    Raises:
        DataError: there are too few rows, or the checkpoint is of another model.
        DivergenceError: a loss is not finite.
    """
    if len(rows) < MIN_ROWS:
        raise DataError(f"a reward model needs at least {MIN_ROWS} rows, and there are {len(rows)}; add demonstrations")
    bundles = backbone.bundles([row.prompt for row in rows], [(row.demonstration, *row.negatives) for row in rows])
    features = backbone.features(bundles)
    order = torch.randperm(len(rows), generator=generator).tolist()
    held_out = max(1, round(validation_share * len(rows)))
    validation, training = order[:held_out], order[held_out:]
    batches = _batches(training, epochs=epochs, per_batch=prompts_per_step, generator=generator)
    parameters = trainable_by_name(backbone.model)
    optimiser = torch.optim.AdamW(list(parameters.values()), lr=learning_rate, weight_decay=0.0)

    losses: list[float] = []
    if (snapshot := checkpoints.load()) is not None:
        restore_training(snapshot, parameters, optimiser)
        losses = list(snapshot.state["losses"])
    for step in range(len(losses), len(batches)):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * warm_up_then_decay(step, len(batches))
        batch = batches[step]
        rewards = backbone.rewards([bundles[i] for i in batch], [features[i] for i in batch])
        grouped = rewards.view(len(batch), -1)
        loss = objective.loss(grouped[:, 0], grouped[:, 1:])
        if not torch.isfinite(loss):
            raise DivergenceError(f"the reward loss is {loss.item()} at step {step}; lower reward.learning_rate")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        capture = partial(training_snapshot, step + 1, parameters, optimiser, {"losses": losses})
        checkpoints.after_step(step + 1, capture)
        report(losses[-1])
    scored = backbone.rewards_in_passes([bundles[i] for i in validation], [features[i] for i in validation])
    grouped = torch.stack(scored)
    return RewardTraining(
        calibration=calibrate(grouped.flatten()),
        wins=(grouped[:, :1] > grouped[:, 1:]).flatten().tolist(),
        losses=losses,
    )


def _batches(rows: Sequence[int], *, epochs: int, per_batch: int, generator: torch.Generator) -> list[list[int]]:
    """Shuffle the rows anew for every epoch; returns the rows of every step."""
    batches: list[list[int]] = []
    for _ in range(epochs):
        shuffled = [rows[i] for i in torch.randperm(len(rows), generator=generator).tolist()]
        batches += [shuffled[start : start + per_batch] for start in range(0, len(rows), per_batch)]
    return batches


def calibrate(rewards: Float[Tensor, " rows"]) -> Calibration:
    """Mean and standard deviation over demonstrations and completions together."""
    return Calibration(mean=float(rewards.mean()), std=max(float(rewards.std()), _MIN_STD))


def warm_up_then_decay(step: int, total: int) -> float:
    """Learning-rate factor: linear to 1 over the first tenth of the steps, then linear to 0 after the last."""
    warm = max(1, total // 10)
    return (step + 1) / warm if step < warm else max(0.0, (total - step) / max(1, total - warm))
