"""The objectives that a reward model may be trained with: a function each and a line here. Light to import.

Another package brings one by an entry point of group `dr_irl.reward_objectives`.
"""

from typing import TYPE_CHECKING

from dr_irl.registry import Registry

if TYPE_CHECKING:
    from dr_irl.reward.losses import RewardLoss

OBJECTIVES: Registry["RewardLoss"] = Registry(
    "reward objective",
    "dr_irl.reward_objectives",
    {
        "ml_irl": "dr_irl.reward.losses:ml_irl_loss",
        "pairwise": "dr_irl.reward.losses:pairwise_loss",
        "minimax": "dr_irl.reward.losses:minimax_loss",
    },
)
"""Name in `reward.objective` -> the loss that it stands for."""
