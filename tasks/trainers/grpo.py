"""GRPO on dynamically scaled rewards, by our own loop: the method."""

from collections.abc import Mapping
from typing import Any

from dr_irl.config import Settings
from tasks.stages import Stage, encoder_identity, entries_of, judge_entry, policy_identity, sampler_entry, some
from tasks.trainers import Trainer

_LOGGING_ONLY = {"checkpoint_every", "alarm", "max_commonest_prefix", "min_entropy"}


def reads(settings: Settings, _: str) -> dict[str, Any]:
    """Return the settings that shape the trained policy."""
    measures = settings.hardness.source == "policy"
    return {
        "seed": settings.seed,
        "grpo": settings.grpo.model_dump(exclude=_LOGGING_ONLY),
        "alignment": settings.alignment.model_dump(),
        "scaling": settings.scaling.model_dump(),
        "hardness": settings.hardness.model_dump() if measures else {},
        "completions": some(settings.completions, "max_new_tokens"),
        "judge": settings.judge,
        "models": policy_identity(settings) | (encoder_identity(settings) if measures else {}),
    }


def preview(settings: Settings) -> str:
    """Say what a run of GRPO does."""
    grpo = settings.grpo
    return (
        f"GRPO                 {grpo.steps} steps x {grpo.prompts_per_step} prompts x {grpo.group_size} completions, "
        f"{grpo.benign_ratio:.0%} benign, learning rate {grpo.learning_rate:g}, KL {grpo.kl_weight:g}"
    )


def problems(settings: Settings) -> Mapping[str, bool]:
    """Return what our loop cannot do."""
    processes = settings.alignment.num_processes
    return {f"num_processes = {processes}: it is one process; 1 is allowed, or trainer = grpo-trl": processes > 1}


GRPO = Trainer(
    stage=Stage(
        "grpo",
        "tasks.alignment:alignment",
        reads,
        slot="dr-irl-grpo",
        page="tasks.orchestration.pages:show_scaling",
        named=entries_of(sampler_entry, judge_entry),
    ),
    preview=preview,
    problems=problems,
)
