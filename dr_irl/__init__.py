"""Inverse reinforcement learning with dynamic reward scaling, for aligning language models. The front door.

    import dr_irl

    aligned = dr_irl.align(dr_irl.load_settings("demo"), store="store")

Nothing is imported before it is asked for.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dr_irl.alignment import Alignment as Alignment
    from dr_irl.artifacts import Store as Store
    from dr_irl.categories import HARM_CATEGORIES as HARM_CATEGORIES
    from dr_irl.categories import HarmCategory as HarmCategory
    from dr_irl.config import Settings as Settings
    from dr_irl.errors import DrIrlError as DrIrlError
    from dr_irl.errors import UserError as UserError
    from dr_irl.evaluation.judges import JUDGES as JUDGES
    from dr_irl.integrations.trl import DynamicRewardGRPOTrainer as DynamicRewardGRPOTrainer
    from dr_irl.integrations.trl import RoutedReward as RoutedReward
    from dr_irl.language.sampling import CachedPrefixSampler as CachedPrefixSampler
    from dr_irl.policy.options import GrpoOptions as GrpoOptions
    from dr_irl.profile import load_settings as load_settings
    from dr_irl.records import Example as Example
    from dr_irl.reward.losses import ml_irl_loss as ml_irl_loss
    from dr_irl.reward.options import LossOptions as LossOptions
    from dr_irl.reward.panel import RewardPanel as RewardPanel
    from dr_irl.reward.rerank import Reranker as Reranker
    from dr_irl.scaling.dynamic import scale_factors as scale_factors
    from dr_irl.scaling.hardness import ClauseEmbeddings as ClauseEmbeddings
    from dr_irl.scaling.options import ScalingRule as ScalingRule
    from dr_irl.scaling.responsiveness import reward_gaps as reward_gaps
    from tasks.plain import Aligned as Aligned
    from tasks.plain import align as align

_HOMES = {
    "dr_irl.alignment": "Alignment",
    "dr_irl.artifacts": "Store",
    "dr_irl.categories": "HARM_CATEGORIES HarmCategory",
    "dr_irl.config": "Settings",
    "dr_irl.errors": "DrIrlError UserError",
    "dr_irl.evaluation.judges": "JUDGES",
    "dr_irl.integrations.trl": "DynamicRewardGRPOTrainer RoutedReward",
    "dr_irl.language.sampling": "CachedPrefixSampler",
    "dr_irl.policy.options": "GrpoOptions",
    "dr_irl.profile": "load_settings",
    "dr_irl.records": "Example",
    "dr_irl.reward.losses": "ml_irl_loss",
    "dr_irl.reward.options": "LossOptions",
    "dr_irl.reward.panel": "RewardPanel",
    "dr_irl.reward.rerank": "Reranker",
    "dr_irl.scaling.dynamic": "scale_factors",
    "dr_irl.scaling.hardness": "ClauseEmbeddings",
    "dr_irl.scaling.options": "ScalingRule",
    "dr_irl.scaling.responsiveness": "reward_gaps",
    "tasks.plain": "Aligned align",  # what composes the stages; the method itself knows nothing of them
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'dr_irl' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
