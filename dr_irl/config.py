"""Every setting of a run: one frozen class per stage, unknown keys refused, each number bounded.

Only `tasks/` and `flows/` read these classes; the method's functions take plain arguments.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from dr_irl.categories import ALL_LABELS, HARM_CATEGORIES


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class ModelSettings(_Section):
    """Which models take part."""

    policy: str
    """The model to align: `bundled:NAME`, a folder, `s3://bucket/prefix` or a hub id."""
    policy_revision: str | None = None
    """Commit, tag or branch of a hub id."""
    encoder: str
    """The sentence encoder Phi, named the same four ways."""
    encoder_revision: str | None = None
    """Commit, tag or branch of a hub id."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Number format of the frozen weights; adapters are always float32."""
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    """`cpu`, `cuda` or `cuda:N`."""


class SourceSettings(_Section):
    """Where prompts come from."""

    files: tuple[str, ...] = ("seed",)
    """`seed` (the demonstrations shipped here), or Parquet, JSONL or CSV files, local or s3://."""
    evaluation_files: tuple[str, ...] = ()
    """Files whose prompts must not be trained on: every overlapping prompt is dropped."""
    max_prompt_characters: PositiveInt = 4000
    """Longer prompts are dropped and counted."""
    max_bad_rows: float = Field(default=0.05, ge=0, le=1)
    """Share of unusable rows above which a file is refused."""
    near_duplicate: float = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity of word 3-grams from which two prompts are near duplicates."""
    overlap_ngram: PositiveInt = 8
    """A training prompt that shares this many consecutive words with an evaluation prompt is dropped."""


class RouteSettings(_Section):
    """How prompts without a category get one."""

    min_confidence: float = Field(default=0.5, ge=0, le=1)
    """Below this probability the router abstains and the prompt is dropped, and counted."""


class BalanceSettings(_Section):
    """How the categories are made equal."""

    rows_per_category: PositiveInt
    """Rows kept in each harm category."""
    benign_rows: int = Field(ge=0)
    """Ordinary and look-alike prompts kept for the guard."""
    allow_repeats: bool = False
    """Fill a light category by repeating rows where there is nothing else; off, a shortfall is an error."""


class DemonstrationSettings(_Section):
    """How prompts without a demonstration get one."""

    generator: Literal["none", "policy"] = "none"
    """`none`: such rows are dropped, and counted; `policy`: the policy model writes them by Chain of Draft."""
    max_new_tokens: PositiveInt = 160
    """Length limit of one generated demonstration, draft included."""
    max_response_words: PositiveInt = 120
    """Longer answers are dropped, and counted."""
    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature of the generator."""


class CompletionSettings(_Section):
    """Completions sampled from the reference policy: the negatives of the reward models."""

    per_prompt: PositiveInt
    """n completions per training prompt."""
    prompts_per_category: PositiveInt | None = None
    """Training prompts of each category that are completed, drawn at random; reward models, hardness and GRPO take
    their harmful prompts from these. None: all."""
    heldout_per_category: PositiveInt
    """Held-out prompts per category that get one completion, to measure the reward models on."""
    max_new_tokens: PositiveInt
    """Length limit; every policy sample and every scored answer is cut there."""
    temperature: float = Field(default=1.0, ge=0)
    """1 samples pi_ref itself."""
    rows_at_once: PositiveInt = 64
    """Sequences decoded together."""


class RewardSettings(_Section):
    """Maximum-likelihood inverse RL, one model per category."""

    objective: Literal["ml_irl", "pairwise", "minimax"] = "ml_irl"
    """Which loss of method.md section 2."""
    beta: PositiveFloat = 1.0
    """Temperature of the soft-optimal policy."""
    minimax_penalty: float = Field(default=0.1, ge=0)
    """Weight of the squared rewards that keep `minimax` bounded."""
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
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")
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
    max_rows: int = Field(default=64, ge=4)
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
    def _layers_fit(self) -> "RewardSettings":
        if self.adapted_layers > self.depth:
            raise ValueError(f"adapted_layers = {self.adapted_layers} must not exceed depth = {self.depth}")
        return self


class HardnessSettings(_Section):
    """Distance between completions and demonstrations."""

    level: Literal["clauses", "whole"] = "clauses"
    """`clauses`: best match per clause; `whole`: one cosine of the complete texts."""


class WarmStartSettings(_Section):
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


class ScalingSettings(_Section):
    """Dynamic reward scaling: a = aD * aM."""

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


class GrpoSettings(_Section):
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
    clip: float = Field(default=0.2, gt=0, lt=1)
    """epsilon of the clipped surrogate."""
    iterations: PositiveInt = 1
    """Optimiser steps on each batch of completions."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature."""
    lora_rank: PositiveInt = 16
    """Rank of the policy's LoRA matrices, warm start included."""
    adapted_layers: PositiveInt = 1000
    """Topmost layers that carry LoRA; the frozen ones below run once for policy and reference. Default: all."""
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Projections that carry LoRA."""
    mask_truncated: bool = False
    """Leave completions that ran into the length limit out of the loss."""
    zero_variance_tolerance: float = Field(default=1e-4, ge=0)
    """Groups whose rewards spread less than this get zero advantage, and are counted."""
    advantage_spread: Literal["group", "batch"] = "group"
    """What centred rewards are divided by: each group's standard deviation, as published, or the whole batch's spread,
    which leaves more weight to groups that hold both refusals and answers."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradient clipping."""
    micro_batch_tokens: PositiveInt = 2048
    """Padded tokens in one forward and backward pass."""
    checkpoint_every: PositiveInt = 2
    """Steps between two checkpoints; has no influence on the result."""


class EvaluationSettings(_Section):
    """What is measured before and after."""

    max_new_tokens: PositiveInt
    """Length limit of an answer."""
    per_category: PositiveInt = 1000
    """At most this many held-out harmful prompts per category."""
    ordinary: PositiveInt = 1000
    """At most this many ordinary and as many look-alike prompts."""
    rows_at_once: PositiveInt = 64
    """Sequences decoded together."""


class Settings(_Section):
    """All settings of a run."""

    profile: str
    """The profile these settings started from."""
    seed: int = Field(default=0, ge=0)
    """The one seed; every generator is derived from it by name."""
    threads: PositiveInt = 2
    """CPU threads of torch in the stages that run alone."""
    models: ModelSettings
    sources: SourceSettings = SourceSettings()
    route: RouteSettings = RouteSettings()
    balance: BalanceSettings
    demonstrations: DemonstrationSettings = DemonstrationSettings()
    completions: CompletionSettings
    reward: RewardSettings
    hardness: HardnessSettings = HardnessSettings()
    warm_start: WarmStartSettings = WarmStartSettings()
    scaling: ScalingSettings = ScalingSettings()
    grpo: GrpoSettings
    evaluation: EvaluationSettings

    @property
    def reward_labels(self) -> tuple[str, ...]:
        """The labels that have a reward model: the harm categories and, where there is a guard, `benign`."""
        return ALL_LABELS if self.balance.benign_rows else HARM_CATEGORIES
