"""GRPO on dynamically scaled rewards as a TRL trainer: TRL samples, scores and learns, we multiply its advantages.

Departures from `dr_irl.alignment`: TRL has no tolerance for groups of equal rewards (their advantages are zero, but
rewards that differ by rounding count), its `scale_rewards="batch"` divides by the spread of all rewards instead of the
centred ones, and the distances are those of the data set throughout. Loss and gradients are the same where
`use_bias_correction_kl` is off; TRL's default multiplies the KL estimate by pi / pi_old.
"""

import json
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from dr_irl.categories import BENIGN
from dr_irl.errors import DataError, SettingsError, UserError
from dr_irl.integrations.routing import RoutedReward, completion_text, require_columns, training_prompt
from dr_irl.language.chat import end_ids, sampled_text, thought_marks
from dr_irl.language.sampling import Sample
from dr_irl.policy.rollouts import Rollouts
from dr_irl.policy.step_log import scaling_records
from dr_irl.records import ScalingRecord
from dr_irl.scaling.dynamic import Factors, scale_factors
from dr_irl.scaling.options import ScalingRule
from dr_irl.scaling.responsiveness import reward_gaps, rows_of

try:
    from accelerate.utils import gather_object
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
    from trl import GRPOTrainer  # pyright: ignore[reportPrivateImportUsage]
except ImportError as error:
    raise UserError(f"TRL cannot be used ({error}); install it: pip install 'dr-irl[trl]'") from error

__all__ = ["DynamicRewardGRPOTrainer", "RoutedReward"]

TESTED = "trl>=1.16,<2"
STATE_NAME = "dynamic_scaling.json"
"""In a checkpoint's folder, beside TRL's own state."""
_USED = (
    "_calculate_rewards",
    "_generate_and_score_completions",
    "_get_output_dir",
    "_load_optimizer_and_scheduler",
    "_logs",
    "_metrics",
    "_save_checkpoint",
    "chat_template_kwargs",
    "eos_token_ids",
)
"""Names of TRL that it does not promise to keep."""


class DynamicRewardGRPOTrainer(GRPOTrainer):
    """`GRPOTrainer` whose advantages are a_i A_ik: scaled per prompt, before they are logged and before they are used.

    The data set has the columns of `dr_irl.integrations.routing.COLUMNS`, and `id` where prompts have one. Factors are
    computed from the whole batch, alike in every process. Evaluation is not scaled. Completions end where those of our
    own sampler do, and control tokens that a prompt spells out are text.
    """

    def __init__(self, *args: Any, scaling: ScalingRule, **kwargs: Any) -> None:
        """Take what `GRPOTrainer` takes, exactly one `RoutedReward` among its `reward_funcs`.

        Args:
            args: of `GRPOTrainer`.
            scaling: how advantages are scaled.
            kwargs: of `GRPOTrainer`.

        Raises:
            SettingsError: there is no `RoutedReward` among the rewards, or more than one.
            DataError: the data set lacks a column.
            UserError: this version of TRL works in another way.
        """
        super().__init__(*args, **kwargs)
        if gone := [name for name in _USED if not hasattr(self, name)]:
            raise UserError(f"this version of TRL has no {', '.join(gone)}; install one that was tested: {TESTED}")
        routed = {i: function for i, function in enumerate(self.reward_funcs) if isinstance(function, RoutedReward)}
        if len(routed) != 1:
            raise SettingsError(
                f"{len(routed)} of {len(self.reward_funcs)} reward_funcs are a RoutedReward; scaling needs exactly one"
            )
        if (columns := getattr(self.train_dataset, "column_names", None)) is not None:
            require_columns(columns)
        ((self._column, self._reward),) = routed.items()
        self._read_as_our_sampler()
        self._group = cast(int, self.num_generations)
        self.scaling = scaling
        self.mean_gaps: dict[str, float] = {}
        """Moving average of m_j, the same in every process."""
        self.scaling_records: list[ScalingRecord] = []
        """What scaled each prompt; `step` counts finished optimiser steps. Kept by the main process."""

    def record_batch(self, rollouts: Rollouts, gaps: Float[Tensor, "prompts group"], factors: Factors) -> None:
        """Keep what scaled a batch; the main process calls it once a batch, all processes' completions in it."""
        self.scaling_records += scaling_records(self.state.global_step, rollouts, gaps, factors)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        if not self._trains:
            return output
        scale = self._scale().repeat_interleave(self._group)
        logged = self._logs["advantages"]
        latest = [logged.pop() for _ in scale][::-1]
        logged.extend((torch.tensor(latest) * scale).tolist())
        own = slice(self.accelerator.process_index * len(inputs), (self.accelerator.process_index + 1) * len(inputs))
        output["advantages"] = output["advantages"] * scale[own].to(output["advantages"])
        return output

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list[Any], completions: list[Any], completion_ids_list: list[Any]
    ) -> Tensor:
        completions = [self._with_thoughts(c, ids) for c, ids in zip(completions, completion_ids_list, strict=True)]
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self._trains:
            samples = [self._sample(c, ids) for c, ids in zip(completions, completion_ids_list, strict=True)]
            self._rollouts = self._gather(inputs, samples, rewards[:, self._column])
        return rewards

    @property
    def _trains(self) -> bool:
        return cast(torch.nn.Module, self.model).training

    def _read_as_our_sampler(self) -> None:
        """End completions where our sampler ends them, and tell their thoughts from their answers."""
        tokenizer: Any = getattr(self.processing_class, "tokenizer", self.processing_class)
        self._marks = frozenset[int]()
        if tokenizer.chat_template is None:  # prompts in plain text: there are no turns that could end
            return
        ends = end_ids(tokenizer, self.eos_token_ids)
        if self.use_vllm and (missed := ends - set(self.eos_token_ids)):
            raise SettingsError(
                f"vLLM would not end an answer at {', '.join(tokenizer.convert_ids_to_tokens(sorted(missed)))}, which "
                "closes a turn in the chat template; add its id to eos_token_id in the model's generation_config.json"
            )
        self.eos_token_ids = sorted(ends)
        if not self.use_vllm:
            self.generation_config.eos_token_id = self.generation_kwargs["eos_token_id"] = self.eos_token_ids
        self._marks = thought_marks(tokenizer) - ends
        if tokenizer is self.processing_class:
            self.chat_template_kwargs = {"sanitize_control_tokens": True} | self.chat_template_kwargs

    def _with_thoughts(self, completion: Any, ids: Sequence[int]) -> Any:
        """Return a completion with the special tokens by which its thought ends, which TRL leaves out."""
        if not any(id in self._marks for id in ids):
            return completion
        tokenizer: Any = getattr(self.processing_class, "tokenizer", self.processing_class)
        text = sampled_text(tokenizer, ids, self._marks)
        return text if isinstance(completion, str) else [{"role": "assistant", "content": text}]

    def _sample(self, completion: Any, ids: Sequence[int]) -> Sample:
        cut = len(ids) >= cast(int, self.max_completion_length) and ids[-1] not in self.eos_token_ids
        return Sample(tuple(ids), completion_text(completion), truncated=cut)

    def _gather(
        self, inputs: Sequence[dict[str, Any]], samples: Sequence[Sample], rewards: Float[Tensor, " completions"]
    ) -> Rollouts:
        """Put the completions of all processes together, in the order of TRL's rewards: group after group."""
        prompts = [training_prompt(row) for row in inputs]
        demonstrations = self._reward.of_demonstrations(prompts)
        rows = gather_object(list(zip(prompts, demonstrations, samples, strict=True)))
        groups = [rows[start : start + self._group] for start in range(0, len(rows), self._group)]
        return Rollouts(
            prompts=[rows[0][0] for rows in groups],
            samples=[[sample for _, _, sample in rows] for rows in groups],
            rewards=rewards.view(-1, self._group).float().cpu(),
            demonstration_rewards=torch.tensor([rows[0][1] for rows in groups]),
        )

    def _scale(self) -> Float[Tensor, " prompts"]:
        """Return a_i of the batch that was scored last, and count the batch."""
        rollouts = self._rollouts
        gaps = reward_gaps(rollouts.demonstration_rewards, rollouts.rewards)
        own = torch.tensor([prompt.distance for prompt in rollouts.prompts])
        category = torch.tensor([prompt.category_distance for prompt in rollouts.prompts])
        categories = [prompt.category for prompt in rollouts.prompts]
        factors = scale_factors(self.scaling, categories, (own, category), gaps, self.mean_gaps)
        self.mean_gaps = factors.mean_gaps
        self._log_batch(categories, rollouts.rewards, gaps, factors)
        if self.accelerator.is_main_process:
            self.record_batch(rollouts, gaps, factors)
        return factors.alpha

    def _log_batch(
        self,
        categories: Sequence[str],
        rewards: Float[Tensor, "prompts group"],
        gaps: Float[Tensor, "prompts group"],
        factors: Factors,
    ) -> None:
        metrics = self._metrics["train"]
        harmful = [row for row, name in enumerate(categories) if name != BENIGN]
        for name in ("data", "model", "alpha") if harmful else ():
            values = getattr(factors, name)[harmful]
            for part in ("mean", "min", "max"):
                metrics[f"scaling/{name}/{part}"].append(float(getattr(values, part)()))
        for name in sorted(set(categories)):
            rows = rows_of(categories, name)
            metrics[f"reward/{name}"].append(float(rewards[rows].mean()))
            if name != BENIGN:
                metrics[f"gap/{name}"].append(float(gaps[rows].mean()))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            records = [astuple(record) for record in self.scaling_records]
            folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            (folder / STATE_NAME).write_text(json.dumps({"mean_gaps": self.mean_gaps, "scaling": records}))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        path = Path(checkpoint) / STATE_NAME
        if not path.is_file():
            raise DataError(f"{checkpoint} has no {STATE_NAME}: it is the checkpoint of another trainer; start anew")
        state = json.loads(path.read_text())
        self.mean_gaps = state["mean_gaps"]
        self.scaling_records = [ScalingRecord(*values) for values in state["scaling"]]
