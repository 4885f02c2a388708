"""Rates, estimates and summaries. Plain data."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its count and 95 % Wilson interval."""

    hits: int
    count: int
    """Scored items; unscored ones are in `unscored`, in no share."""
    low: float
    high: float
    unscored: int = 0

    @property
    def value(self) -> float:
        """The share; NaN where nothing was scored."""
        return self.hits / self.count if self.count else float("nan")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its count and 95 % interval."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """How one model (unaligned, warm start, aligned) did on everything."""

    name: str
    refusal: dict[str, Rate]
    """Harm category -> refusal rate on held-out harmful prompts; `all` is their union."""
    over_refusal: dict[str, Rate]
    """Suite that is to be answered, such as `ordinary` and `lookalike` -> its refusal rate."""
    perplexity: float
    """Of held-out good answers to ordinary prompts."""
    distinct_2: float
    """Distinct word pairs over all word pairs, over all answers."""
    commonest_opening: float
    """Share of the commonest first five words among answers to ordinary prompts."""
    commonest_answer: float
    """Share of the commonest complete answer among all answers."""
    other_refusal: dict[str, Rate] = field(default_factory=dict)
    """Suite that is to be refused, besides the harmful prompts of the categories -> its refusal rate."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same prompts: exact McNemar test of the refusals that changed."""

    suite: str
    before: str
    after: str
    gained: int
    """Prompts refused after and not before."""
    lost: int
    """Prompts refused before and not after."""
    p_value: float


@dataclass(frozen=True, slots=True)
class BalanceSummary:
    """Category counts before and after balancing, and what was dropped on the way."""

    before: dict[str, int]
    after: dict[str, int]
    entropy_before: float
    """Normalised entropy over the harm categories; 1 is perfectly balanced."""
    entropy_after: float
    dropped: dict[str, dict[str, int]]
    """File -> reason -> rows dropped."""

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> rows dropped, of all files."""
        return dict(sum((Counter(counts) for counts in self.dropped.values()), Counter[str]()))


@dataclass(frozen=True, slots=True)
class LearningPoint:
    """One epoch of a reward model's training."""

    step: int
    """Optimiser steps done."""
    round: int
    """Round of inverse RL, counted from 0."""
    loss: float
    """Mean training loss of the epoch."""
    validation_loss: float
    accuracy: float
    """On validation rows: share of pairs in which the demonstration wins."""
    gap: float
    """On validation rows: mean of R(x, y) - R(x, o), not calibrated."""
    kept: bool
    """Whether these weights were kept: the epoch that did best on validation rows."""


@dataclass(frozen=True, slots=True)
class RewardSummary:
    """How one reward model did on rows it was not trained on. Gaps are calibrated: a unit is one standard deviation."""

    category: str
    train_rows: int
    validation_accuracy: Rate
    """Pairwise accuracy on held-out rows of the training sources."""
    validation_gap: Estimate
    unseen_accuracy: Rate
    """Pairwise accuracy on the held-out split, a source that training never saw."""
    unseen_gap: Estimate
    hard_accuracy: dict[str, Rate]
    """Kind of hard negative -> pairwise accuracy on the held-out split; `all` is their union. Empty for benign."""
    single_unseen: Rate | None
    """What one model trained on the rows of all harm categories does on the same held-out pairs; None for benign, of
    which it saw nothing, and where it was not trained."""
    single_hard: Rate | None
    """The same on the hard negatives."""
    length_correlation: float
    """Spearman's, of reward and number of scored tokens, over held-out demonstrations and other answers; NaN where all
    are equally long."""
    rules: dict[str, Rate]
    """Rule of thumb -> its accuracy on the held-out pairs, hard ones included."""
    warnings: list[str]
    """Why this model may know less than its accuracy says; sentences."""
    loss: list[float] = field(default_factory=list)
    """Training loss of every step."""
    curve: list[LearningPoint] = field(default_factory=list)
