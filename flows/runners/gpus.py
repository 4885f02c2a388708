"""How many GPUs a stage takes for itself on a cluster."""

import torch

from dr_irl.config import Settings
from dr_irl.errors import UserError
from tasks.trainers import trainer_of

_WITHOUT_MODELS = frozenset({"sources", "champion", "report"})


def gpus_needed(stage: str, settings: Settings) -> int:
    """Return how many GPUs a stage takes: none where no model is loaded, one per process that trains."""
    if not settings.models.device.startswith("cuda") or stage in _WITHOUT_MODELS:
        return 0
    trainer = trainer_of(settings)
    return trainer.processes(settings) if stage == trainer.stage.name else 1


def check_gpus_here(wanted: int) -> None:
    """Refuse a stage that a cluster of this machine alone would let wait for ever.

    Raises:
        UserError: this machine has too few GPUs.
    """
    if wanted > (here := torch.cuda.device_count()):
        raise UserError(
            f"models.device is cuda, a stage needs {wanted} GPU(s) and this machine has {here}; set models.device=cpu, "
            "or name a cluster that has GPUs in DASK_SCHEDULER_ADDRESS or RAY_ADDRESS"
        )
