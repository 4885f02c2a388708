"""A panel of random reward models over the tiny backbone, on disk."""

from collections.abc import Sequence
from pathlib import Path

import torch

from dr_irl.language.load import load_reward_backbone, load_tokenizer
from dr_irl.reward.model import RewardBackbone, add_reward_adapter
from dr_irl.reward.outcome import Calibration
from dr_irl.reward.saved import Origin, save_reward_model, weights_digest

NAME = "bundled:tiny-random-lm"


def write_panel(folder: Path, labels: Sequence[str]) -> None:
    """Save a model for each label, each with other weights."""
    for seed, label in enumerate(labels):
        generator = torch.Generator().manual_seed(seed)
        base = load_reward_backbone(NAME, depth=2, dtype=torch.float32)
        origin = Origin(NAME, None, 2, "float32", weights_digest(base))
        model = add_reward_adapter(
            base, label, rank=2, adapted_layers=1, target_modules=["v_proj"], generator=generator
        )
        for name, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad and "lora_A" not in name:
                parameter.data.normal_(generator=generator)
        backbone = RewardBackbone(model.eval(), load_tokenizer(NAME), adapted_layers=1, limit=8)
        save_reward_model(backbone, label, Calibration(0.0, 1.0), origin, folder / label)
