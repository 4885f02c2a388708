"""How the policy learns, in GRPO and in the warm start before it; light to import, for settings are made of it."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from dr_irl.section import Section

LossType = Literal["grpo", "dr_grpo", "dapo"]
Spread = Literal["group", "batch", "none"]


class GrpoOptions(Section):
    """Group relative policy optimisation on scaled rewards."""

    steps: PositiveInt
    """Policy updates."""
    prompts_per_step: PositiveInt
    """Groups in one step, benign ones included."""
    group_size: int = Field(ge=2)
    """G completions per prompt."""
    benign_ratio: float = Field(ge=0, lt=1)
    """Share of the groups that are ordinary prompts: the guard against blanket refusal."""
    learning_rate: PositiveFloat
    """Peak learning rate of AdamW."""
    kl_weight: float = Field(ge=0)
    """Weight of the KL penalty to the policy that GRPO starts from."""
    loss_type: LossType = "grpo"
    """What a token weighs: `grpo`: completions weigh the same; `dapo`: tokens do; `dr_grpo`: tokens do, against the
    length limit."""
    clip: float = Field(default=0.2, gt=0, lt=1)
    """epsilon of the clipped surrogate."""
    clip_high: PositiveFloat | None = None
    """epsilon upwards, where it is another."""
    iterations: PositiveInt = 1
    """Passes over each batch of completions; above 1 the later ones are off-policy, and the ratios are clipped."""
    minibatches: PositiveInt = 1
    """Optimiser steps in each pass, each on another part of the batch."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature."""
    lora_rank: PositiveInt = 16
    """Rank of the policy's LoRA matrices, warm start included."""
    adapted_layers: PositiveInt = 1000
    """Topmost layers that carry LoRA; the frozen ones below run once for policy and reference. Default: all."""
    target_modules: tuple[str, ...] = Field(default=("q_proj", "k_proj", "v_proj", "o_proj"), min_length=1)
    """Projections that carry LoRA."""
    reward_models: Literal["per_category", "single"] = "per_category"
    """What rewards answers to harmful prompts: the model of their category, or one model for all (a baseline, which
    needs reward.single_baseline)."""
    mask_truncated: bool = False
    """Leave completions that ran into the length limit out of the loss."""
    zero_variance_tolerance: float = Field(default=1e-4, ge=0)
    """Groups whose rewards spread less than this get zero advantage, and are counted."""
    top_up: int = Field(default=0, ge=0)
    """How often in a step groups of equal rewards are replaced by groups of other prompts of their category."""
    advantage_spread: Spread = "group"
    """What centred rewards are divided by: each group's standard deviation, as published; the whole batch's spread,
    which leaves more weight to groups that hold both refusals and answers; or nothing."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradient clipping."""
    micro_batch_tokens: PositiveInt = 2048
    """Padded tokens in one forward and backward pass."""
    alarm: Literal["warn", "stop", "off"] = "warn"
    """What to do at a sign of collapse; has no influence on a result that there is."""
    max_commonest_prefix: float = Field(default=0.9, gt=0, le=1)
    """A larger share of completions that begin with the same four words is a sign of collapse."""
    min_entropy: float = Field(default=0.05, ge=0)
    """Less entropy of the policy's next token, in nats, is a sign of collapse."""
    checkpoint_every: PositiveInt = 2
    """Steps between two checkpoints; has no influence on the result."""


class WarmStartOptions(Section):
    """A short supervised fine-tuning before GRPO: a stage and a table row of its own, not part of the method."""

    steps: int = Field(default=0, ge=0)
    """Optimiser steps; 0 leaves the stage out."""
    rows_per_step: PositiveInt = 16
    """Demonstrations in one step."""
    learning_rate: PositiveFloat = 5e-4
    """Peak learning rate of AdamW."""
    max_answer_tokens: PositiveInt = 64
    """Demonstrations are cut there."""
    benign_share: float = Field(default=0.5, ge=0, le=1)
    """Share of each step that is ordinary prompts."""
    own_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the ordinary prompts that are held along the untrained policy's own answer; the others are taught the
    rest of their demonstration."""
    opening_tokens: PositiveInt = 3
    """The first tokens of an answer, where refusing is decided; ordinary prompts hold the policy there."""
    content_weight: float = Field(default=0.1, ge=0)
    """Weight of every later token in the loss; a token of the opening has 1."""
    benign_weight: PositiveFloat = 1.0
    """Weight of an ordinary answer in the loss; above 1 the policy is held more firmly and refuses less."""
    checkpoint_every: PositiveInt = 50
    """Steps between two checkpoints; has no influence on the result."""
