"""GRPO on dynamically scaled rewards: the loop.

Departures from the paper, each an option: the demonstrations' categories take turns in a batch; a share of every
batch is ordinary prompts (the guard); truncated completions count unless `mask_truncated`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dr_irl.checkpoint import (
    NO_CHECKPOINTS,
    Checkpoints,
    Snapshot,
    restore_training,
    trainable_by_name,
    training_snapshot,
)
from dr_irl.errors import DivergenceError
from dr_irl.language.adapters import reference_active
from dr_irl.language.chat import padding_id, preamble_length, prompt_ids
from dr_irl.language.logprobs import AnswerLogprobs, answer_logprobs
from dr_irl.language.masks import micro_batches
from dr_irl.language.packing import Bundle, Packed, pack
from dr_irl.language.sampling import Sample, Sampler
from dr_irl.language.split import SplitDecoder
from dr_irl.policy.advantages import group_advantages
from dr_irl.policy.objective import clipped_surrogate, kl_estimate, sequence_means
from dr_irl.policy.readings import Clock, LoopState, headline, scaling_records, step_records
from dr_irl.policy.rollouts import Rollouts, TrainingPrompt, schedule_prompts
from dr_irl.reward.panel import RewardPanel
from dr_irl.scaling.dynamic import Factors, ScalingRule, scale_factors
from dr_irl.scaling.responsiveness import reward_gaps
from dr_irl.seeding import torch_generator


@dataclass(frozen=True, slots=True)
class Grpo:
    """The options of the loop; see `GrpoSettings` for each one's meaning."""

    steps: int
    prompts_per_step: int
    group_size: int
    benign_ratio: float
    learning_rate: float
    kl_weight: float
    clip: float
    iterations: int
    temperature: float
    mask_truncated: bool
    zero_variance_tolerance: float
    advantage_spread: Literal["group", "batch"]
    max_grad_norm: float
    micro_batch_tokens: int
    adapted_layers: int


class Alignment:
    """Aligns a policy with GRPO whose advantages are scaled per prompt."""

    def __init__(
        self,
        policy: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        panel: RewardPanel,
        options: Grpo,
        rule: ScalingRule,
        *,
        seed: int,
    ) -> None:
        """Prepare the loop; `policy` is trained in place, its `reference` adapter (or none) is pi_ref."""
        self.policy, self.tokenizer, self.panel = policy, tokenizer, panel
        self.options, self.rule, self.seed = options, rule, seed
        self.decoder = SplitDecoder(policy, upper_layers=options.adapted_layers)
        self.state = LoopState()
        self.parameters = trainable_by_name(policy)
        self.optimiser = torch.optim.AdamW(list(self.parameters.values()), lr=options.learning_rate, weight_decay=0.0)

    def run(
        self,
        prompts: Sequence[TrainingPrompt],
        sampler: Sampler,
        *,
        refresh_sampler: Callable[[], None],
        judge: Callable[[str], bool | None],
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
            DivergenceError: the loss is not finite.
        """
        schedule = schedule_prompts(
            [prompt.category for prompt in prompts],
            steps=self.options.steps,
            per_step=self.options.prompts_per_step,
            benign_ratio=self.options.benign_ratio,
            generator=torch_generator(self.seed, "schedule"),
        )
        if (snapshot := checkpoints.load()) is not None:
            restore_training(snapshot, self.parameters, self.optimiser)
            self.state = LoopState.from_json(snapshot.step, snapshot.state)
        while self.state.step < self.options.steps:
            clock = Clock()
            refresh_sampler()
            chosen = [prompts[row] for row in schedule[self.state.step]]
            samples = sampler.sample(
                [prompt.text for prompt in chosen],
                per_prompt=self.options.group_size,
                generator=torch_generator(self.seed, "rollouts", self.state.step),
            )
            clock.lap("seconds_sampling")
            rollouts = self._score(chosen, samples)
            clock.lap("seconds_scoring")
            gaps = reward_gaps(rollouts.demonstration_rewards, rollouts.rewards)
            factors = self._scale(rollouts, gaps)
            clock.lap("seconds_scaling")
            learned = self._learn(rollouts, factors)
            clock.lap("seconds_learning")
            tolerance = self.options.zero_variance_tolerance
            records = step_records(self.state.step, rollouts, gaps, learned | clock.laps, judge, tolerance=tolerance)
            self.state.finish_step(records, scaling_records(self.state.step, rollouts, gaps, factors), factors)
            checkpoints.after_step(self.state.step, self._snapshot)
            report(headline(records))
        return self.state

    def _snapshot(self) -> Snapshot:
        return training_snapshot(self.state.step, self.parameters, self.optimiser, self.state.to_json())

    def _score(self, prompts: Sequence[TrainingPrompt], samples: Sequence[Sequence[Sample]]) -> Rollouts:
        group = self.options.group_size
        rows = [(p.category, p.text, s.text) for p, g in zip(prompts, samples, strict=True) for s in g]
        rows += [(p.category, p.text, p.demonstration) for p in prompts]
        scores = self.panel.score(*(list(column) for column in zip(*rows, strict=True)))
        return Rollouts(
            prompts=prompts,
            samples=samples,
            rewards=scores[: -len(prompts)].view(len(prompts), group),
            demonstration_rewards=scores[-len(prompts) :],
        )

    def _scale(self, rollouts: Rollouts, gaps: Float[Tensor, "prompts group"]) -> Factors:
        own = torch.tensor([prompt.distance for prompt in rollouts.prompts])
        category = torch.tensor([prompt.category_distance for prompt in rollouts.prompts])
        categories = [prompt.category for prompt in rollouts.prompts]
        return scale_factors(self.rule, categories, (own, category), gaps, self.state.mean_gaps)

    def _learn(self, rollouts: Rollouts, factors: Factors) -> dict[str, float]:
        """Update the policy on one batch of completions; returns what is logged."""
        options = self.options
        advantages = group_advantages(
            rollouts.rewards, factors.alpha, tolerance=options.zero_variance_tolerance, spread=options.advantage_spread
        )
        batches = self._batches(rollouts, advantages)
        logged: dict[str, float] = {}
        for _ in range(options.iterations):
            self._set_learning_rate()
            self.optimiser.zero_grad()
            logged = dict.fromkeys(("loss", "kl", "entropy"), 0.0)
            for batch in batches:
                current = self._logprobs(batch.packed, batch.features)
                if batch.old is None:
                    batch.old = current.logprobs.detach()
                surrogate = clipped_surrogate(current.logprobs, batch.old, batch.advantages, clip=options.clip)
                kl = kl_estimate(current.logprobs, batch.reference)
                answer = batch.packed.answer
                loss = (sequence_means(options.kl_weight * kl - surrogate, answer) * batch.weights).sum()
                loss.backward()
                logged["loss"] += loss.item()
                logged["kl"] += float((sequence_means(kl.detach(), answer) * batch.weights).sum())
                logged["entropy"] += float((sequence_means(current.entropy, answer) * batch.weights).sum())
            norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), options.max_grad_norm)
            logged["grad_norm"] = float(norm)
            if not torch.isfinite(norm):
                raise DivergenceError(
                    f"the gradient is not finite at step {self.state.step} (loss {logged['loss']}); "
                    "lower grpo.learning_rate"
                )
            self.optimiser.step()
        return logged

    def _logprobs(self, packed: Packed, features: Float[Tensor, "rows length hidden"]) -> AnswerLogprobs:
        states = self.decoder.states(features, packed)
        return answer_logprobs(
            states, self.policy.get_output_embeddings(), packed, temperature=self.options.temperature
        )

    @torch.no_grad()
    def _batches(self, rollouts: Rollouts, advantages: Float[Tensor, "prompts group"]) -> list["_Batch"]:
        """Lay the groups out in micro-batches, with what does not change while the policy learns from them."""
        questions = prompt_ids(self.tokenizer, [prompt.text for prompt in rollouts.prompts])
        bundles = [
            Bundle(question, [sample.token_ids for sample in group])
            for question, group in zip(questions, rollouts.samples, strict=True)
        ]
        masked = self.options.mask_truncated
        counts = torch.tensor([[float(not (masked and s.truncated)) for s in group] for group in rollouts.samples])
        counts /= counts.numel()
        batches: list[_Batch] = []
        pad, shared = padding_id(self.tokenizer), preamble_length(self.tokenizer)
        for rows in micro_batches([len(bundle) - shared for bundle in bundles], self.options.micro_batch_tokens):
            packed = pack([bundles[row] for row in rows], pad=pad, shared=shared, device=self.policy.device)
            features = self.decoder.features(packed)
            with reference_active(self.policy):
                reference = self._logprobs(packed, features).logprobs
            placed = advantages[rows].flatten().to(packed.ids.device), counts[rows].flatten().to(packed.ids.device)
            batches.append(_Batch(packed, features, reference, *placed))
        return batches

    def _set_learning_rate(self) -> None:
        """Hold the rate for the first half, then let it fall linearly to a tenth."""
        done = self.state.step / self.options.steps
        factor = 1.0 if done < 0.5 else 1.0 - 0.9 * (done - 0.5) / 0.5
        for group in self.optimiser.param_groups:
            group["lr"] = self.options.learning_rate * factor


@dataclass
class _Batch:
    packed: Packed
    features: Float[Tensor, "rows length hidden"]
    reference: Float[Tensor, "answers tokens"]
    """log pi_ref."""
    advantages: Float[Tensor, " answers"]
    weights: Float[Tensor, " answers"]
    """Each completion's share of the loss."""
    old: Float[Tensor, "answers tokens"] | None = None
    """log pi when the completions were sampled; set by the first pass."""
