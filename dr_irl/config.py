"""Every setting of a run: one frozen class per stage, unknown keys refused, each number bounded.

The options of a room of the method stand in that room, in `options.py` or `bounds.py`; its functions take them whole.
The classes below are read by `tasks/` and `flows/` alone.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from dr_irl.categories import ALL_LABELS, HARM_CATEGORIES
from dr_irl.contradictions import contradictions
from dr_irl.evaluation.judges import JUDGES
from dr_irl.language.number_format import NumberFormat, fastest_number_format
from dr_irl.language.rendering import DEFAULT_DATE, as_arguments, as_date
from dr_irl.language.samplers import SAMPLERS
from dr_irl.policy.options import GrpoOptions, WarmStartOptions
from dr_irl.promotion.bounds import Bounds
from dr_irl.reward.options import RewardOptions
from dr_irl.scaling.options import HardnessOptions, ScalingRule
from dr_irl.section import Section


def as_device(name: str) -> str:
    """Return the name of a device.

    Raises:
        ValueError: there is no such device, or none that numbers were compared on.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"{name!r} is none; allowed are cpu, cuda and cuda:N")
    return name


class ModelSettings(Section):
    """Which models take part."""

    policy: str
    """The model to align: `bundled:NAME`, a folder, `s3://bucket/prefix` or a hub id."""
    policy_revision: str | None = None
    """Commit, tag or branch of a hub id."""
    encoder: str
    """The sentence encoder Phi, named the same four ways."""
    encoder_revision: str | None = None
    """Commit, tag or branch of a hub id."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the frozen weights; adapters are always float32. `auto`: what the device is fastest in."""
    device: Annotated[str, AfterValidator(as_device)] = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""
    sampler: Annotated[str, AfterValidator(SAMPLERS.check)] = "cached-prefix"
    """What samples answers (`grpo-trl` does so itself): `cached-prefix`, or one that another package brings."""
    template_arguments: Annotated[dict[str, Any], BeforeValidator(as_arguments)] = {}
    """What the policy's chat template is given wherever it is rendered, such as `{enable_thinking: false}`."""
    template_date: Annotated[str, BeforeValidator(as_date)] = DEFAULT_DATE
    """The day that a chat template is told it is, where it asks: YYYY-MM-DD. Never today's, which changes."""
    champion: str | None = None
    """An adapter of the policy that is evaluated beside the result: a folder, `s3://bucket/prefix` or a hub id."""
    start: Literal["base", "champion"] = "base"
    """What is trained: the policy, warm-started where that is asked for, or the champion, which had its warm start."""

    @model_validator(mode="after")
    def _champion_is_named(self) -> "ModelSettings":
        if self.start == "champion" and not self.champion:
            raise ValueError("models.start = champion needs models.champion, the adapter to start from")
        return self

    @property
    def number_format(self) -> NumberFormat:
        """What `dtype` comes to on this machine."""
        return fastest_number_format(self.device) if self.dtype == "auto" else self.dtype


class SourceSettings(Section):
    """Where prompts come from."""

    files: tuple[str, ...] = Field(default=("seed",), min_length=1)
    """`seed` (the demonstrations shipped here), or files, folders and patterns, local or s3:// (`docs/data.md`)."""
    evaluation_files: tuple[str, ...] = ()
    """Files whose prompts must not be trained on: every overlapping prompt is dropped."""
    max_prompt_characters: PositiveInt = 4000
    """Longer prompts are dropped and counted."""
    max_bad_rows: float = Field(default=0.05, ge=0, le=1)
    """Share of unusable rows above which a file is refused."""
    heldout_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of a category's rows that is held out where no file has held-out rows of it."""
    near_duplicate: float = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity of word 3-grams from which two prompts are near duplicates."""
    overlap_ngram: PositiveInt = 8
    """A training prompt that shares this many consecutive words with an evaluation prompt is dropped."""


class RouteSettings(Section):
    """How prompts without a category get one."""

    min_confidence: float = Field(default=0.5, ge=0, le=1)
    """Below this probability the router abstains and the prompt is dropped, and counted."""


class BalanceSettings(Section):
    """How the categories are made equal."""

    rows_per_category: PositiveInt
    """Rows kept in each harm category."""
    benign_rows: int = Field(ge=0)
    """Ordinary and look-alike prompts kept for the guard."""
    allow_compliance: bool = False
    """Take harm categories whose demonstrations mostly do not decline; off, such data is refused."""
    allow_repeats: bool = False
    """Fill a light category by repeating rows where there is nothing else; off, a shortfall is an error."""


class DemonstrationSettings(Section):
    """How prompts without a demonstration get one."""

    generator: Literal["none", "policy"] = "none"
    """`none`: such rows are dropped, and counted; `policy`: the policy model writes them by Chain of Draft."""
    max_new_tokens: PositiveInt = 160
    """Length limit of one generated demonstration, draft included."""
    max_response_words: PositiveInt = 120
    """Longer answers are dropped, and counted."""
    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature of the generator."""


class CompletionSettings(Section):
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


class AlignmentSettings(Section):
    """What trains the policy."""

    trainer: str = "grpo"
    """`grpo`: our loop, on one device; `grpo-trl`: TRL's GRPOTrainer with the same scaling, for several (extra `trl`);
    `sft`: the warm start alone, for comparison; or one that another package brings."""
    num_processes: PositiveInt = 1
    """Processes that `accelerate launch` starts for `grpo-trl`."""


class EvaluationSettings(Section):
    """What is measured before and after."""

    max_new_tokens: PositiveInt
    """Length limit of an answer."""
    per_category: PositiveInt = 1000
    """At most this many held-out harmful prompts per category."""
    ordinary: PositiveInt = 1000
    """At most this many ordinary prompts, and as many of each other suite (`dr_irl/evaluation/suites/`)."""
    rows_at_once: PositiveInt = 64
    """Sequences decoded together."""


class LimitSettings(Section):
    """How long a stage may take; has no influence on a result."""

    stage_minutes: dict[str, PositiveFloat] = {}
    """Stage -> minutes after which it stops at its next step and the run fails; a rerun goes on from its checkpoint."""


class Settings(Section):
    """All settings of a run."""

    profile: str
    """The profile these settings started from."""
    seed: int = Field(default=0, ge=0)
    """The one seed; every generator is derived from it by name."""
    threads: PositiveInt = 2
    """CPU threads of torch in the stages that run alone."""
    judge: str = "wording"
    """Which judge says whether an answer refuses: where demonstrations are checked, in what training logs, in the
    evaluation. One of `dr_irl/evaluation/judges/`, or of another package (`docs/extend.md`)."""
    models: ModelSettings
    sources: SourceSettings = SourceSettings()
    route: RouteSettings = RouteSettings()
    balance: BalanceSettings
    demonstrations: DemonstrationSettings = DemonstrationSettings()
    completions: CompletionSettings
    reward: RewardOptions
    hardness: HardnessOptions = HardnessOptions()
    warm_start: WarmStartOptions = WarmStartOptions()
    scaling: ScalingRule = ScalingRule()
    grpo: GrpoOptions
    alignment: AlignmentSettings = AlignmentSettings()
    evaluation: EvaluationSettings
    promotion: Bounds = Bounds()
    limits: LimitSettings = LimitSettings()

    @field_validator("judge")
    @classmethod
    def _judge_is_there(cls, name: str) -> str:
        return JUDGES.check(name)

    @model_validator(mode="after")
    def _agree(self) -> "Settings":
        if found := contradictions(self):
            raise ValueError("; ".join(found))
        return self

    @property
    def reward_labels(self) -> tuple[str, ...]:
        """The labels that have a reward model: the harm categories and, where there is a guard, `benign`."""
        return ALL_LABELS if self.balance.benign_rows else HARM_CATEGORIES
