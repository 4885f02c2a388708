"""The same GRPO, by TRL's trainer: for several GPUs."""

from collections.abc import Mapping
from dataclasses import replace

from dr_irl.config import Settings
from tasks.stages import judge_entry
from tasks.trainers.grpo import GRPO


def problems(settings: Settings) -> Mapping[str, bool]:
    """Return what TRL would take for something else."""
    grpo, parts = settings.grpo, settings.grpo.minibatches * settings.alignment.num_processes
    completions = grpo.prompts_per_step * grpo.group_size
    return {
        "grpo.advantage_spread = batch: TRL's divides by the spread of all rewards, not of the centred ones; "
        "group and none are the same in both": grpo.advantage_spread == "batch",
        f"grpo.top_up = {grpo.top_up}: TRL cannot replace groups; 0 is allowed": grpo.top_up > 0,
        "hardness.source = policy: TRL keeps the distances it is given; reference is allowed": (
            settings.hardness.source == "policy"
        ),
        f"models.device = {settings.models.device}: TRL chooses the device itself; say cuda, and name it in "
        "CUDA_VISIBLE_DEVICES": ":" in settings.models.device,
        f"{completions} completions a step (grpo.prompts_per_step x grpo.group_size) do not split evenly over "
        f"{parts} parts (grpo.minibatches x alignment.num_processes)": completions % parts > 0,
    }


GRPO_TRL = replace(
    GRPO,
    stage=replace(GRPO.stage, make="tasks.alignment_trl:align_with_trl", named=judge_entry),
    preview=lambda settings: f"{GRPO.preview(settings)}, by TRL",
    problems=problems,
    processes=lambda settings: settings.alignment.num_processes,
)
