"""How hardness is measured and rewards are scaled; light to import, for settings are made of it."""

from typing import Literal

from pydantic import Field, PositiveFloat

from dr_irl.section import Section

Combination = Literal["product", "sum", "data", "model", "none"]
Level = Literal["clauses", "whole"]


class ScalingRule(Section):
    """Dynamic reward scaling, a = aD * aM: the options of method.md section 3."""

    combine: Combination = "product"
    """How data hardness and model responsiveness become one factor."""
    kappa: PositiveFloat = 1.0
    """Slope of data hardness; 1 as published."""
    reference: Literal["batch", "ema"] = "batch"
    """What mean gap a batch is compared with: its own, as published, or the moving average of past steps."""
    ema_decay: float = Field(default=0.9, ge=0, lt=1)
    """Weight of the past in the moving average."""
    tau: PositiveFloat | Literal["mad"] = "mad"
    """Squared distance to the mean gap beyond which a gap is left out; `mad` sets it from the batch."""
    sum_weight: float = Field(default=0.5, ge=0, le=1)
    """Weight of data hardness in `combine: sum`."""
    clip: tuple[PositiveFloat, PositiveFloat] | None = None
    """[a_min, a_max], or none."""
    rescale: bool = True
    """Rescale the factors of a batch to mean 1."""


class HardnessOptions(Section):
    """Distance between completions and demonstrations."""

    level: Level = "clauses"
    """`clauses`: best match per clause; `whole`: one cosine of the complete texts."""
    source: Literal["reference", "policy"] = "reference"
    """Whose completions are measured: `reference`, the reference policy's, once, as a stage; `policy`: GRPO starts from
    those and measures its own completions at every step."""
