"""How a reward model learns; light to import, for settings are made of it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from dr_irl.reward.objectives import OBJECTIVES
from dr_irl.section import Section

MIN_ROWS = 4
"""That a reward model needs: some to learn from, and one to stop by."""


class LossOptions(Section):
    """What a reward model's loss is, and what it takes."""

    objective: Annotated[str, AfterValidator(OBJECTIVES.check)] = "ml_irl"
    """Which loss of method.md section 2, `ml_irl`, `pairwise` or `minimax`; or one that another package brings."""
    beta: PositiveFloat = 1.0
    """Temperature of the soft-optimal policy."""
    minimax_penalty: float = Field(default=0.1, ge=0)
    """Weight of the squared rewards that keep `minimax` bounded."""


class RewardOptions(LossOptions):
    """Maximum-likelihood inverse RL, one model per category."""

    rounds: PositiveInt = 1
    """Rounds of inverse RL; from the second on, completions are drawn anew in proportion to exp(reward / beta)."""
    draws: PositiveInt | None = None
    """Completions per prompt in the loss; None: as many as were sampled. Later rounds draw them from all of these."""
    training: Literal["separate", "joint"] = "separate"
    """`separate`: a task per category, side by side; `joint`: one task over one resident backbone, for one device."""
    single_baseline: bool = False
    """Train one more model on the rows of all harm categories, for comparison; nothing else uses it."""
    depth: PositiveInt
    """Layers of the backbone that are kept."""
    adapted_layers: PositiveInt
    """Topmost kept layers that carry LoRA; the frozen ones below run once per text."""
    lora_rank: PositiveInt = 8
    """Rank of the LoRA matrices."""
    target_modules: tuple[str, ...] = Field(default=("q_proj", "v_proj"), min_length=1)
    """Projections that carry LoRA."""
    learning_rate: PositiveFloat
    """Peak learning rate of AdamW."""
    epochs: PositiveInt
    """Passes over the rows in each round."""
    patience: PositiveInt = 2
    """A round ends after so many epochs that brought nothing on validation rows; the best epoch's weights are kept."""
    prompts_per_step: PositiveInt = 8
    """Prompts in one optimiser step."""
    validation_share: float = Field(default=0.15, gt=0, lt=1)
    """Share of a category's rows held out for accuracy and calibration."""
    max_rows: int = Field(default=64, ge=MIN_ROWS)
    """At most this many prompts of each category."""
    contrast_negatives: int = Field(default=1, ge=0)
    """Negatives of the opposite kind per prompt: refusals for the benign model, ordinary answers for the others."""
    hard_negatives: int = Field(default=0, ge=0, le=5)
    """Hard negatives per harmful prompt, each of another kind: another category's refusal, compliance behind a courtesy
    or an apology, no answer, repeated words."""
    benign_answers: Literal["demonstrations", "own"] = "demonstrations"
    """What the benign model demonstrates: the good answers of the sources, or the reference policy's own, with refusals
    as the only negatives: then answering pays, and no style does."""
    checkpoint_every: PositiveInt = 50
    """Steps between two checkpoints; has no influence on the result."""

    @model_validator(mode="after")
    def _layers_fit(self) -> "RewardOptions":
        if self.adapted_layers > self.depth:
            raise ValueError(f"adapted_layers = {self.adapted_layers} must not exceed depth = {self.depth}")
        return self
