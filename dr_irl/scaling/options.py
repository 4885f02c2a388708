"""How rewards are scaled; light to import, for settings are made of it."""

from typing import Literal

from pydantic import Field, PositiveFloat

from dr_irl.section import Section


class ScalingRule(Section):
    """Dynamic reward scaling, a = aD * aM: the options of method.md section 3."""

    combine: Literal["product", "sum", "data", "model", "none"] = "product"
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
