"""Training with TRL: its trainer on our models, in one process or as one of several. Imports TRL, and no Prefect."""

import logging
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import PrinterCallback, TrainingArguments
from trl import GRPOConfig  # pyright: ignore[reportPrivateImportUsage]

from dr_irl.alignment import hold_then_decay
from dr_irl.config import Settings
from dr_irl.errors import CollapseError, DivergenceError, SettingsError
from dr_irl.evaluation.judges import JUDGES
from dr_irl.integrations.trl import DynamicRewardGRPOTrainer, RoutedReward
from dr_irl.language.chat import prompt_ids
from dr_irl.policy.alarms import collapse_signs
from dr_irl.policy.rollouts import Rollouts
from dr_irl.policy.step_log import headline, step_records
from dr_irl.records import ScalingRecord, StepRecord
from dr_irl.reward.panel import RewardPanel
from dr_irl.scaling.dynamic import Factors
from tasks.contents import ADAPTER, SCALING, STEPS
from tasks.models import base_policy, policy_tokenizer
from tasks.trl.job import Report, TrlJob, scheduled_rows, trl_arguments, updates_per_step

logger = logging.getLogger(__name__)

_ADAPTER = "default"  # TRL copies the adapter of this name: the copy is the reference
_NAMES = {
    "loss": "loss",
    "kl": "kl",
    "entropy": "entropy",
    "clipped": "clip_ratio/region_mean",
    "grad_norm": "grad_norm",
}
"""Ours -> TRL's. TRL averages over all tokens, our loop over a completion's tokens and then over completions."""


class RecordingTrainer(DynamicRewardGRPOTrainer):
    """Keeps of each step what our own loop keeps, and watches for the same signs."""

    def __init__(self, *args: Any, settings: Settings, report: Report, **kwargs: Any) -> None:
        """Take what the trainer takes; `report` hears the headline numbers of each step, on the main process."""
        super().__init__(*args, **kwargs)
        self.step_records: list[StepRecord] = []
        self._settings, self._report = settings, report
        self._updates: list[dict[str, float]] = []

    def record_batch(self, rollouts: Rollouts, gaps: Tensor, factors: Factors) -> None:
        """Keep the batch until its last update is logged."""
        super().record_batch(rollouts, gaps, factors)
        self._batch = rollouts, gaps

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as TRL does; after the last update on a batch, describe the step."""
        super().log(logs, start_time)
        if "loss" not in logs or not self.accelerator.is_main_process:
            return
        logged = self.state.log_history[-1]
        self._updates.append({ours: logged[theirs] for ours, theirs in _NAMES.items() if theirs in logged})
        if not all(math.isfinite(logged[name]) for name in ("loss", "grad_norm")):
            raise DivergenceError(f"loss {logged['loss']}, gradient {logged['grad_norm']}; lower grpo.learning_rate")
        if self.state.global_step % updates_per_step(self._settings) == 0:
            self._finish_step()

    def _finish_step(self) -> None:
        grpo = self._settings.grpo
        last = self._updates[-grpo.minibatches :]
        learned = {name: fmean(update[name] for update in last) for name in last[0]}
        step = self.state.global_step // updates_per_step(self._settings) - 1
        tolerance = grpo.zero_variance_tolerance
        judge = JUDGES[self._settings.judge]
        records = step_records(step, *self._batch, learned, judge, tolerance=tolerance)
        self.step_records += records
        self._watch(records)
        self._report(headline(records))

    def _watch(self, records: list[StepRecord]) -> None:
        if not (signs := collapse_signs(records, self._settings.grpo)):
            return
        if self._settings.grpo.alarm == "stop":
            raise CollapseError(
                f"GRPO stopped at step {records[0].step}: {'; '.join(signs)}; or set grpo.alarm to warn"
            )
        logger.warning("GRPO step %d: %s", records[0].step, "; ".join(signs))


def train(job: TrlJob, report: Report) -> None:
    """Train, and write adapter and tables into the job's folder; every process of a run calls it."""
    with tempfile.TemporaryDirectory(prefix="dr-irl-trl-") as scratch:
        trainer = make_trainer(job, report, Path(scratch))
        trainer.train()
    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    # All processes take part: weights may be split over them.
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.accelerator.is_main_process:
        _write(trainer, policy, weights, job)
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


def _write(trainer: RecordingTrainer, policy: Any, weights: Any, job: TrlJob) -> None:
    # PEFT keeps these names in a set, whose order is another in each process; the bytes of an artifact are not.
    policy.peft_config[_ADAPTER].target_modules = sorted(policy.peft_config[_ADAPTER].target_modules)
    policy.save_pretrained(
        str(job.folder / ADAPTER), selected_adapters=[_ADAPTER], state_dict=weights, save_embedding_layers=False
    )
    updates = updates_per_step(job.settings)
    scaling = [replace(record, step=record.step // updates) for record in trainer.scaling_records]
    StepRecord.write(trainer.step_records, job.folder / STEPS)
    ScalingRecord.write(scaling, job.folder / SCALING)


def make_trainer(job: TrlJob, report: Report, scratch: Path) -> RecordingTrainer:
    """Load models and data; TRL's arguments come first, because they choose this process's device."""
    settings = job.settings
    tokenizer = policy_tokenizer(settings)
    longest = max(len(ids) for ids in prompt_ids(tokenizer, [prompt.text for prompt in job.prompts]))
    arguments = GRPOConfig(**trl_arguments(settings, longest_prompt=longest, scratch=scratch))
    _require_processes(arguments, settings.alignment.num_processes)
    base, _ = base_policy(settings)
    policy = PeftModel.from_pretrained(base, str(job.start), is_trainable=True)
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=settings.grpo.learning_rate, weight_decay=0.0)
    updates = updates_per_step(settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda update: hold_then_decay((update // updates) / settings.grpo.steps)
    )
    trainer = RecordingTrainer(
        policy,
        RoutedReward(RewardPanel.assemble(job.panel, device=settings.models.device)),
        arguments,
        Dataset.from_list(scheduled_rows(settings, job.prompts)),
        processing_class=tokenizer,
        optimizers=(optimiser, schedule),
        scaling=settings.scaling,
        settings=settings,
        report=report,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _require_processes(arguments: TrainingArguments, wanted: int) -> None:
    if arguments.world_size != wanted or arguments.n_gpu > 1:
        raise SettingsError(
            f"{arguments.world_size} processes over {max(arguments.n_gpu, 1)} GPUs each instead of alignment."
            f"num_processes = {wanted} of one; set it to the number of GPUs, or hide some with CUDA_VISIBLE_DEVICES"
        )
