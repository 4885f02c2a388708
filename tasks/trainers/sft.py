"""Supervised fine-tuning alone: the warm start, and nothing after it. What GRPO has to be better than."""

from collections.abc import Mapping
from dataclasses import replace

from dr_irl.config import Settings
from tasks.stages import WARM_START
from tasks.trainers import Trainer


def problems(settings: Settings) -> Mapping[str, bool]:
    """Return what supervised fine-tuning cannot do."""
    processes = settings.alignment.num_processes
    return {
        "warm_start.steps = 0: it learns in these steps; 1 or more are allowed": settings.warm_start.steps == 0,
        "models.start = champion: it trains an adapter anew; base is allowed": settings.models.start == "champion",
        f"alignment.num_processes = {processes}: it is one process; 1 is allowed": processes > 1,
    }


SFT = Trainer(
    stage=replace(WARM_START, name="sft"),
    preview=lambda settings: f"SFT                  {settings.warm_start.steps} steps, no GRPO after them",
    warm_start=False,
    rewards=False,
    problems=problems,
)
