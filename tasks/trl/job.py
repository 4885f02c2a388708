"""What TRL is given: our settings in TRL's words, and the prompts in the order of our own schedule. Imports no TRL."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from dr_irl.config import Settings
from dr_irl.policy.rollouts import TrainingPrompt, schedule_prompts
from dr_irl.seeding import derive_seed, torch_generator

Report = Callable[[dict[str, float]], object]
"""Hears the headline numbers of each step."""

PROGRESS = "progress "
"""How a line begins with which a process tells them, as JSON."""
ERROR_FILES = "error-*.txt"
"""Beside the job: what each process that failed said last."""


class TrlJob(BaseModel):
    """All that a process needs to take part in the training; written as JSON where there are several."""

    model_config = ConfigDict(frozen=True)

    settings: Settings
    prompts: tuple[TrainingPrompt, ...]
    panel: dict[str, Path]
    """Category -> folder of the model that rewards its prompts."""
    start: Path
    """The adapter to train, and the reference."""
    folder: Path
    """Where adapter and tables are written."""


def updates_per_step(settings: Settings) -> int:
    """Return the optimiser steps that one of our steps has; TRL counts them singly."""
    return settings.grpo.iterations * settings.grpo.minibatches


def trl_arguments(settings: Settings, *, longest_prompt: int, scratch: Path) -> dict[str, Any]:
    """Say our settings in the words of `GRPOConfig`.

    TRL deals single completions, not whole groups, to `grpo.minibatches`, and knows no `zero_variance_tolerance`.

    Args:
        settings: of the run.
        longest_prompt: tokens of the longest prompt, from which the rows of one pass follow.
        scratch: where TRL may write.
    """
    grpo, limit = settings.grpo, settings.completions.max_new_tokens
    rows = grpo.prompts_per_step * grpo.group_size // (grpo.minibatches * settings.alignment.num_processes)
    at_once = rows_at_once(rows, max(1, grpo.micro_batch_tokens // (longest_prompt + limit)))
    return {
        "output_dir": str(scratch),
        "seed": derive_seed(settings.seed, "trl") % 2**32,
        "use_cpu": settings.models.device == "cpu",
        "bf16": False,  # as in our loop: frozen weights in models.dtype, adapters in float32, no autocast
        "gradient_checkpointing": False,
        "max_steps": grpo.steps * updates_per_step(settings),
        "num_iterations": grpo.iterations,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": rows // at_once,
        "steps_per_generation": grpo.minibatches * rows // at_once,
        "num_generations": grpo.group_size,
        "shuffle_dataset": False,
        "max_completion_length": limit,
        "temperature": grpo.temperature,
        "loss_type": grpo.loss_type,
        "scale_rewards": grpo.advantage_spread,
        "beta": grpo.kl_weight,
        "use_bias_correction_kl": False,  # the estimate of method.md; TRL's default multiplies it by the ratio
        "epsilon": grpo.clip,
        "epsilon_high": grpo.clip_high,
        "mask_truncated_completions": grpo.mask_truncated,
        "max_grad_norm": grpo.max_grad_norm,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def rows_at_once(rows: int, most: int) -> int:
    """Return the largest divisor of `rows` that is no more than `most`: passes of one size weigh the same."""
    return max(size for size in range(1, min(rows, most) + 1) if rows % size == 0)


def scheduled_rows(settings: Settings, prompts: Sequence[TrainingPrompt]) -> list[dict[str, Any]]:
    """Return the rows of the data set, in the order in which our own loop would train on them."""
    schedule = schedule_prompts(
        [prompt.category for prompt in prompts],
        steps=settings.grpo.steps,
        per_step=settings.grpo.prompts_per_step,
        benign_ratio=settings.grpo.benign_ratio,
        generator=torch_generator(settings.seed, "schedule"),
    )
    return [
        {
            "id": prompt.id,
            "prompt": [{"role": "user", "content": prompt.text}],
            "category": prompt.category,
            "demonstration": prompt.demonstration,
            "distance": prompt.distance,
            "category_distance": prompt.category_distance,
        }
        for step in schedule
        for prompt in (prompts[row] for row in step)
    ]
