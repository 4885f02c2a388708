"""Trains one category's reward model by maximum-likelihood inverse RL, in rounds.

Every text runs once through the frozen lower layers; each step runs only the layers that carry adapters. Everything
random is drawn before the first step, so that a run which goes on from a checkpoint does what it would have done.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dr_irl.errors import DataError, DivergenceError
from dr_irl.reward.model import Prepared, RewardBackbone
from dr_irl.reward.objectives import OBJECTIVES
from dr_irl.reward.options import MIN_ROWS, RewardOptions
from dr_irl.reward.outcome import Epoch, RewardTraining, calibrate
from dr_irl.reward.pairs import PreferenceRow
from dr_irl.reward.resample import resample
from dr_irl.reward.schedule import schedule_steps
from dr_irl.snapshot import (
    NO_CHECKPOINTS,
    Checkpoints,
    Snapshot,
    best_parameters,
    restore_training,
    trainable_by_name,
    training_snapshot,
)


@dataclass
class _Standing:
    """What changes from step to step, besides the weights."""

    position: int = 0
    """In the schedule."""
    losses: list[float] = field(default_factory=list)
    curve: list[Epoch] = field(default_factory=list)
    best: int = -1
    stale: int = 0
    """Epochs of this round since the best."""
    round: int = -1
    picks: list[list[int]] = field(default_factory=list)
    """Row -> which of its completions are in the loss this round."""
    log_weights: list[list[float]] = field(default_factory=list)

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "_Standing":
        values: dict[str, Any] = state | {"curve": [Epoch(**point) for point in state["curve"]]}
        return cls(**values)


def train_reward_model(
    backbone: RewardBackbone,
    rows: Sequence[PreferenceRow],
    options: RewardOptions,
    *,
    generator: torch.Generator,
    report: Callable[[float], object],
    checkpoints: Checkpoints = NO_CHECKPOINTS,
    prepared: Sequence[Prepared] | None = None,
) -> RewardTraining:
    """Fit the active adapter and head of `backbone` to the rows by maximum-likelihood inverse RL.

    The first round takes completions of pi_ref as they were drawn; every later one draws them anew, tilted by the
    reward learnt so far. The weights of the epoch that did best on validation rows are kept.

    Args:
        backbone: modified in place: its active adapter and head are trained.
        rows: one category's rows, all with the same number of completions and of contrasts.
        options: of the loop.
        generator: splits and shuffles the rows, and draws completions.
        report: hears the loss after every step.
        checkpoints: says where to go on, if not at the first step, and keeps where training stands.
        prepared: what `prepare_rows` made of the rows, where that was done before.

    Raises:
        DataError: there are too few rows, they do not fit together, or the checkpoint is of another model.
        DivergenceError: a loss or gradient is not finite.
    """
    _check(rows)
    training = _Training(backbone, rows, options, generator, prepared or prepare_rows(backbone, rows))
    return training.run(report, checkpoints)


def prepare_rows(backbone: RewardBackbone, rows: Sequence[PreferenceRow]) -> list[Prepared]:
    """Run the frozen lower layers over the rows: each prompt with demonstration, completions, contrasts."""
    answers = [(row.demonstration, *row.completions, *row.contrasts) for row in rows]
    return backbone.prepare([row.prompt for row in rows], answers)


class _Training:
    def __init__(
        self,
        backbone: RewardBackbone,
        rows: Sequence[PreferenceRow],
        options: RewardOptions,
        generator: torch.Generator,
        prepared: Sequence[Prepared],
    ) -> None:
        self.backbone, self.rows, self.options, self.prepared = backbone, rows, options, prepared
        self.pool = len(rows[0].completions)
        self.draws = self.pool if options.draws is None else min(options.draws, self.pool)
        order = torch.randperm(len(rows), generator=generator).tolist()
        held_out = max(1, round(options.validation_share * len(rows)))
        self.validation, self.training = order[:held_out], order[held_out:]
        self.schedule = schedule_steps(
            self.training,
            [len(row) for row in prepared],
            rounds=options.rounds,
            epochs=options.epochs,
            per_step=options.prompts_per_step,
            generator=generator,
        )
        self.uniform = torch.rand(options.rounds, len(rows), self.draws, dtype=torch.float64, generator=generator)
        self.parameters = trainable_by_name(backbone.model)
        self.optimiser = torch.optim.AdamW(list(self.parameters.values()), lr=options.learning_rate, weight_decay=0.0)
        self.standing = _Standing()
        self.best: dict[str, Tensor] = {}

    def run(self, report: Callable[[float], object], checkpoints: Checkpoints) -> RewardTraining:
        standing = self.standing
        if (snapshot := checkpoints.load()) is not None:
            restore_training(snapshot, self.parameters, self.optimiser)
            self.best = best_parameters(snapshot)
            standing = self.standing = _Standing.from_json(dict(snapshot.state))
        while standing.position < len(self.schedule):
            step = self.schedule[standing.position]
            if step.round != standing.round:
                self._begin_round(step.round)
            standing.losses.append(self._learn(step.rows, checkpoints))
            standing.position += 1
            if step.ends_epoch:
                self._end_epoch(step.round)
            checkpoints.after_step(standing.position, self._snapshot)
            report(standing.losses[-1])
        return self._finish()

    def _begin_round(self, number: int) -> None:
        """Choose the completions of a round: the first of each pool, and later those that the reward takes for good."""
        self.standing.round, self.standing.stale = number, 0
        if number == 0 or not self.pool:
            picks = torch.arange(self.draws).expand(len(self.rows), -1)
            log_weights = torch.zeros(len(self.rows), self.draws)
        else:
            pool = [row.select(range(1, 1 + self.pool)) for row in self.prepared]
            rewards = torch.stack(self.backbone.rewards_in_passes(pool))
            picks, log_weights = resample(rewards, self.uniform[number], beta=self.options.beta)
        self.standing.picks, self.standing.log_weights = picks.tolist(), log_weights.tolist()

    def _learn(self, batch: Sequence[int], checkpoints: Checkpoints) -> float:
        """Take one step; returns its loss. Weights never change where loss or gradient is not finite."""
        chosen = [self._chosen(row) for row in batch]
        rewards = self.backbone.rewards([self.prepared[i].select(c) for i, c in zip(batch, chosen, strict=True)])
        loss = self._loss(rewards.view(len(batch), -1), torch.tensor([self.standing.log_weights[i] for i in batch]))
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.learning_rate * warm_up_then_decay(self.standing.position, len(self.schedule))
        self.optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            evidence = {
                "step": self.standing.position,
                "rows": [asdict(self.rows[i]) for i in batch],
                "rewards": [str(value) for value in rewards.tolist()],
            }
            raise DivergenceError(
                f"the reward loss is {loss.item()} at step {self.standing.position} (gradient norm {norm.item()}); "
                f"lower reward.learning_rate; {checkpoints.after_failure(self._snapshot, evidence)}"
            )
        self.optimiser.step()
        return loss.item()

    def _end_epoch(self, number: int) -> None:
        """Measure on validation rows, keep the best weights, and leave the round if it brings nothing any more."""
        standing = self.standing
        grouped = self._validation_rewards()
        gaps = grouped[:, :1] - grouped[:, 1:]
        losses = standing.losses[standing.curve[-1].step if standing.curve else 0 :]
        point = Epoch(
            step=len(standing.losses),
            round=number,
            loss=math.fsum(losses) / len(losses),
            validation_loss=self._loss(grouped, torch.zeros(1, self.pool)).item(),
            accuracy=(gaps > 0).double().mean().item(),
            gap=gaps.mean().item(),
        )
        standing.stale += 1
        if point.better_than(standing.curve[standing.best] if standing.curve else None):
            standing.best, standing.stale = len(standing.curve), 0
            self.best = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        standing.curve.append(point)
        if standing.stale >= self.options.patience:
            later = (at for at, step in enumerate(self.schedule) if step.round > number)
            standing.position = next(later, len(self.schedule))

    @torch.no_grad()
    def _finish(self) -> RewardTraining:
        for name, parameter in self.parameters.items():
            parameter.copy_(self.best[name])
        grouped = self._validation_rewards()
        calibration = calibrate(grouped.flatten())
        gaps = (grouped[:, :1] - grouped[:, 1:]).flatten() / calibration.std
        return RewardTraining(
            calibration=calibration,
            gaps=gaps.tolist(),
            losses=self.standing.losses,
            curve=self.standing.curve,
            best=self.standing.best,
            train_rows=len(self.training),
        )

    def _validation_rewards(self) -> Float[Tensor, "rows answers"]:
        return torch.stack(self.backbone.rewards_in_passes([self.prepared[i] for i in self.validation]))

    def _loss(self, rewards: Float[Tensor, "rows answers"], drawn: Float[Tensor, "_ drawn"]) -> Float[Tensor, ""]:
        """Loss of rows of rewards, the demonstration's first; contrasts, the last, weigh what pi_ref's would."""
        log_weights = torch.zeros(len(rewards), rewards.shape[1] - 1, device=rewards.device)
        log_weights[:, : drawn.shape[1]] = drawn.to(rewards.device)
        loss = OBJECTIVES[self.options.objective]
        return loss(rewards[:, 0], rewards[:, 1:], log_weights, self.options)

    def _chosen(self, row: int) -> list[int]:
        """Answers of a row that a step scores: demonstration, drawn completions, contrasts."""
        contrasts = range(1 + self.pool, len(self.prepared[row].bundle.answers))
        return [0, *(1 + pick for pick in self.standing.picks[row]), *contrasts]

    def _snapshot(self) -> Snapshot:
        state = asdict(self.standing)
        return training_snapshot(self.standing.position, self.parameters, self.optimiser, state, self.best)


def _check(rows: Sequence[PreferenceRow]) -> None:
    if len(rows) < MIN_ROWS:
        raise DataError(f"a reward model needs at least {MIN_ROWS} rows, and there are {len(rows)}; add demonstrations")
    counts = sorted({(len(row.completions), len(row.contrasts)) for row in rows})
    if len(counts) > 1:
        raise DataError(
            f"rows of a reward model must have the same number of completions and of contrasts; there are {counts}; "
            "sample the completions again"
        )
    if counts[0] == (0, 0):
        raise DataError("a reward model has nothing to compare its demonstrations with; sample completions")


def warm_up_then_decay(step: int, total: int) -> float:
    """Learning-rate factor: linear to 1 over the first tenth of the steps, then linear to 0 after the last."""
    warm = max(1, total // 10)
    return (step + 1) / warm if step < warm else max(0.0, (total - step) / max(1, total - warm))
