"""GRPO on dynamically scaled rewards: the loop.

Departures from the paper, each an option: the demonstrations' categories take turns in a batch; a share of every
batch is ordinary prompts (the guard); truncated completions count unless `mask_truncated`; groups whose rewards are
all equal can be replaced by others of their category (`top_up`).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dr_irl.categories import BENIGN
from dr_irl.errors import CollapseError, DivergenceError
from dr_irl.evaluation.judges import Judge
from dr_irl.language.sampling import Sample, Sampler
from dr_irl.policy.advantages import group_advantages, zero_variance
from dr_irl.policy.alarms import collapse_signs
from dr_irl.policy.learner import Learner
from dr_irl.policy.options import GrpoOptions
from dr_irl.policy.rollouts import Rollouts, TrainingPrompt, schedule_prompts, substitutes
from dr_irl.policy.step_log import Clock, LoopState, headline, scaling_records, step_records
from dr_irl.records import StepRecord
from dr_irl.reward.panel import RewardPanel
from dr_irl.scaling.dynamic import Factors, scale_factors
from dr_irl.scaling.options import ScalingRule
from dr_irl.scaling.responsiveness import reward_gaps
from dr_irl.seeding import torch_generator
from dr_irl.snapshot import NO_CHECKPOINTS, Checkpoints, Snapshot, restore_training, training_snapshot

logger = logging.getLogger(__name__)

Distances = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""Completions, and the demonstration of each -> d."""


class Alignment:
    """Aligns a policy with GRPO whose advantages are scaled per prompt."""

    def __init__(
        self,
        policy: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        panel: RewardPanel,
        options: GrpoOptions,
        rule: ScalingRule,
        *,
        max_tokens: int,
        seed: int,
        distances: Distances | None = None,
    ) -> None:
        """Prepare the loop.

        Args:
            policy: trained in place; its `reference` adapter (or none) is pi_ref.
            tokenizer: of the policy.
            panel: the reward models.
            options: of GRPO.
            rule: how advantages are scaled.
            max_tokens: the most that a completion can have.
            seed: every generator of the loop is derived from it.
            distances: measures the policy's own completions at every step; None: prompts keep the distance they have.
        """
        self.learner = Learner(policy, tokenizer, options, max_tokens=max_tokens)
        self.panel, self.options, self.rule, self.seed, self.distances = panel, options, rule, seed, distances
        self.state = LoopState()
        self._clock = Clock()

    def run(
        self,
        prompts: Sequence[TrainingPrompt],
        sampler: Sampler,
        *,
        refresh_sampler: Callable[[], None],
        judge: Judge,
        report: Callable[[dict[str, float]], object],
        checkpoints: Checkpoints = NO_CHECKPOINTS,
    ) -> LoopState:
        """Run the steps that are left.

        Args:
            prompts: harmful prompts of all categories, and benign ones.
            sampler: samples from the current policy once `refresh_sampler` has been called.
            refresh_sampler: brings the sampler's weights up to date.
            judge: tells refusals, for the log only; rewards never see it.
            report: hears the headline numbers after every step.
            checkpoints: says where to go on, if not at the first step, and keeps where training stands.

        Raises:
            DataError: the checkpoint is of another policy.
            DivergenceError: a reward or the loss is not finite.
            CollapseError: the policy shows a sign of collapse, and the alarms are set to stop.
        """
        schedule = schedule_prompts(
            [prompt.category for prompt in prompts],
            steps=self.options.steps,
            per_step=self.options.prompts_per_step,
            benign_ratio=self.options.benign_ratio,
            generator=torch_generator(self.seed, "schedule"),
        )
        if (snapshot := checkpoints.load()) is not None:
            restore_training(snapshot, self.learner.parameters, self.learner.optimiser)
            self.state = LoopState.from_json(snapshot.step, snapshot.state)
        while self.state.step < self.options.steps:
            self._clock = Clock()
            refresh_sampler()
            step = self.state.step
            evidence: dict[str, Any] = {"step": step}
            try:
                records = self._step(prompts, schedule[step], sampler, judge, evidence)
            except (DivergenceError, CollapseError) as error:
                kept = checkpoints.after_failure(self._snapshot, evidence)
                raise type(error)(f"GRPO stopped at step {step}: {error}; {kept}") from error
            checkpoints.after_step(self.state.step, self._snapshot)
            report(headline(records))
        return self.state

    def _step(
        self,
        prompts: Sequence[TrainingPrompt],
        chosen: Sequence[int],
        sampler: Sampler,
        judge: Judge,
        evidence: dict[str, Any],
    ) -> list[StepRecord]:
        """Take one step: sample, score, scale, learn; `evidence` gets what a failure leaves to look at."""
        rollouts, replaced = self._collect(prompts, chosen, sampler, evidence)
        gaps = reward_gaps(rollouts.demonstration_rewards, rollouts.rewards)
        factors = self._scale(prompts, rollouts, gaps)
        scaling = scaling_records(self.state.step, rollouts, gaps, factors)
        evidence["scaling"] = [asdict(record) for record in scaling]
        advantages = group_advantages(
            rollouts.rewards,
            factors.alpha,
            tolerance=self.options.zero_variance_tolerance,
            spread=self.options.advantage_spread,
        )
        self._clock.lap("seconds_scaling")
        rate_factor = hold_then_decay(self.state.step / self.options.steps)
        learned = self.learner.learn(rollouts, advantages, rate_factor=rate_factor)
        self._clock.lap("seconds_learning")
        measured = learned | {"topped_up": float(replaced)} | self._clock.laps
        tolerance = self.options.zero_variance_tolerance
        records = step_records(self.state.step, rollouts, gaps, measured, judge, tolerance=tolerance)
        self.state.finish_step(records, scaling, factors)
        self._watch(records)
        return records

    def _collect(
        self, prompts: Sequence[TrainingPrompt], chosen: Sequence[int], sampler: Sampler, evidence: dict[str, Any]
    ) -> tuple[Rollouts, int]:
        """Sample and score a group for each chosen prompt, and others for groups that teach nothing."""
        rollouts = self._roll_out([prompts[row] for row in chosen], sampler, 0, evidence)
        categories, used, at = [prompt.category for prompt in prompts], list(chosen), list(chosen)
        replaced = 0
        for attempt in range(1, self.options.top_up + 1):
            equal = zero_variance(rollouts.rewards, tolerance=self.options.zero_variance_tolerance).tolist()
            draws = torch_generator(self.seed, "substitutes", self.state.step, attempt)
            found = substitutes(categories, used, [row for row, e in zip(at, equal, strict=True) if e], generator=draws)
            if not found:
                break
            places = [place for place, row in enumerate(at) if row in found and equal[place]]
            others = self._roll_out([prompts[found[at[place]]] for place in places], sampler, attempt, evidence)
            rollouts = rollouts.replace_groups(places, others)
            for place in places:
                at[place] = found[at[place]]
            used += found.values()
            replaced += len(places)
        return rollouts, replaced

    def _roll_out(
        self, prompts: Sequence[TrainingPrompt], sampler: Sampler, attempt: int, evidence: dict[str, Any]
    ) -> Rollouts:
        samples = sampler.sample(
            [prompt.text for prompt in prompts],
            per_prompt=self.options.group_size,
            generator=torch_generator(self.seed, "rollouts", self.state.step, *([attempt] if attempt else [])),
        )
        self._clock.lap("seconds_sampling")
        evidence.setdefault("groups", []).extend(
            {"prompt_id": prompt.id, "category": prompt.category, "completions": [s.text for s in group]}
            for prompt, group in zip(prompts, samples, strict=True)
        )
        rollouts = self._score(prompts, samples, evidence)
        self._clock.lap("seconds_scoring")
        return rollouts

    def _score(
        self, prompts: Sequence[TrainingPrompt], samples: Sequence[Sequence[Sample]], evidence: dict[str, Any]
    ) -> Rollouts:
        group = self.options.group_size
        rows = [(p.category, p.text, s.answer) for p, g in zip(prompts, samples, strict=True) for s in g]
        harmful = [row for row, p in enumerate(prompts) if p.category != BENIGN]
        rows += [(prompts[row].category, prompts[row].text, prompts[row].demonstration) for row in harmful]
        scores = self.panel.score(*(list(column) for column in zip(*rows, strict=True)))
        if not bool((finite := scores.isfinite()).all()):
            at = sorted({rows[row][0] for row in (~finite).nonzero()[:, 0].tolist()})
            evidence["rewards"] = [str(score) for score in scores.tolist()]  # completions, then demonstrations
            raise DivergenceError(
                f"{int((~finite).sum())} of {len(scores)} rewards are not finite, of {', '.join(at)}; "
                "train these reward models again with a lower reward.learning_rate"
            )
        completions = len(prompts) * group
        demonstrations = torch.full((len(prompts),), torch.nan)
        demonstrations[harmful] = scores[completions:]
        return Rollouts(prompts, samples, scores[:completions].view(len(prompts), group), demonstrations)

    def _scale(
        self, prompts: Sequence[TrainingPrompt], rollouts: Rollouts, gaps: Float[Tensor, "prompts group"]
    ) -> Factors:
        batch = rollouts.prompts
        own, category = [p.distance for p in batch], [p.category_distance for p in batch]
        if self.distances is not None:
            self._measure(rollouts, self.distances)
            latest = [(p.category, self.state.distances.get(p.id, p.distance)) for p in prompts]
            means = {name: fmean(d for other, d in latest if other == name) for name, _ in latest}
            own = [self.state.distances.get(p.id, p.distance) for p in batch]
            category = [means[p.category] for p in batch]
        distances = torch.tensor(own), torch.tensor(category)
        return scale_factors(self.rule, [p.category for p in batch], distances, gaps, self.state.mean_gaps)

    def _measure(self, rollouts: Rollouts, distances: Distances) -> None:
        """Note how far the policy's completions are from the demonstrations now; a benign prompt has no distance."""
        groups = zip(rollouts.prompts, rollouts.samples, strict=True)
        pairs = [(p, sample.answer) for p, group in groups for sample in group if p.category != BENIGN]
        found = distances([text for _, text in pairs], [prompt.demonstration for prompt, _ in pairs])
        by_prompt: dict[str, list[float]] = {}
        for (prompt, _), distance in zip(pairs, found, strict=True):
            by_prompt.setdefault(prompt.id, []).append(distance)
        self.state.distances |= {name: fmean(values) for name, values in by_prompt.items()}

    def _watch(self, records: Sequence[StepRecord]) -> None:
        """Warn of signs of collapse, or stop at them; the step is done, and the same command goes on after it."""
        if not (signs := collapse_signs(records, self.options)):
            return
        sentence = "; ".join(signs)
        if self.options.alarm == "stop":
            raise CollapseError(
                f"{sentence}; raise grpo.benign_ratio or grpo.kl_weight, lower grpo.learning_rate, "
                "or set grpo.alarm to warn, which goes on from here"
            )
        logger.warning("GRPO step %d: %s", records[0].step, sentence)

    def _snapshot(self) -> Snapshot:
        learner = self.learner
        return training_snapshot(self.state.step, learner.parameters, learner.optimiser, self.state.to_json())


def hold_then_decay(progress: float) -> float:
    """Learning-rate factor: 1 for the first half of the steps, then linear towards a tenth."""
    return 1.0 if progress < 0.5 else 1.0 - 0.9 * (progress - 0.5) / 0.5
