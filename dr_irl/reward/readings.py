"""What readings of reward models say: accuracy, gaps, and whether a simple rule would do as well."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from scipy.stats import spearmanr

from dr_irl.categories import ALL_LABELS, BENIGN, SINGLE
from dr_irl.records import RewardReading
from dr_irl.results.statistics import mean_interval, rate
from dr_irl.results.summaries import LearningPoint, Rate, RewardSummary
from dr_irl.reward.hard_negatives import COMPLETION, KINDS

_MAX_LENGTH_CORRELATION = 0.7

RULES: Mapping[str, Callable[[RewardReading], bool]] = {
    "the longer answer": lambda r: r.demonstration_tokens > r.other_tokens,
    "the shorter answer": lambda r: r.demonstration_tokens < r.other_tokens,
    "the answer worded as a refusal": lambda r: r.demonstration_refuses is True and r.other_refuses is not True,
    "the answer not worded as a refusal": lambda r: r.demonstration_refuses is not True and r.other_refuses is True,
}
"""Rules of thumb: does the demonstration win by it? A tie is no win."""


def gap(reading: RewardReading) -> float:
    """R(x, y) - R(x, o), calibrated."""
    return reading.demonstration_reward - reading.other_reward


def accuracy(readings: Iterable[RewardReading]) -> Rate:
    """Share of pairs in which the demonstration has the higher reward."""
    return rate([gap(reading) > 0 for reading in readings])


def cross_accuracy(readings: Sequence[RewardReading]) -> dict[str, dict[str, float]]:
    """Accuracy of every model on every category's pairs with completions: model -> category -> share."""
    found: dict[str, dict[str, list[RewardReading]]] = {}
    for reading in readings:
        if reading.kind == COMPLETION:
            found.setdefault(reading.model, {}).setdefault(reading.category, []).append(reading)
    order = [name for name in (*ALL_LABELS, SINGLE) if name in found]
    return {model: {name: accuracy(found[model].get(name, [])).value for name in ALL_LABELS} for model in order}


def summarise_reward(
    label: str,
    readings: Sequence[RewardReading],
    *,
    train_rows: int,
    validation_gaps: Sequence[float],
    loss: Sequence[float],
    curve: Sequence[LearningPoint],
) -> RewardSummary:
    """Say how good the reward model of a category is, next to the single one on the same pairs.

    Args:
        label: the category.
        readings: of all models and categories.
        train_rows: rows the model was trained on.
        validation_gaps: calibrated gaps on held-out rows of the training sources.
        loss: of every training step.
        curve: of every epoch.
    """
    pairs = [reading for reading in readings if reading.category == label]
    own = [reading for reading in pairs if reading.model == label]
    single = [reading for reading in pairs if reading.model == SINGLE]
    hard = {kind: [reading for reading in own if reading.kind == kind] for kind in KINDS}
    union = [reading for rows in hard.values() for reading in rows]
    unseen = [reading for reading in own if reading.kind == COMPLETION]
    return RewardSummary(
        category=label,
        train_rows=train_rows,
        validation_accuracy=rate([value > 0 for value in validation_gaps]),
        validation_gap=mean_interval(validation_gaps),
        unseen_accuracy=accuracy(unseen),
        unseen_gap=mean_interval([gap(reading) for reading in unseen]),
        hard_accuracy={kind: accuracy(rows) for kind, rows in (hard | {"all": union}).items()} if union else {},
        single_unseen=accuracy([r for r in single if r.kind == COMPLETION]) if single and label != BENIGN else None,
        single_hard=accuracy([r for r in single if r.kind != COMPLETION]) if single and union else None,
        length_correlation=length_correlation(unseen),
        rules={name: rate([rule(reading) for reading in own]) for name, rule in RULES.items()},
        warnings=warnings(own),
        loss=list(loss),
        curve=list(curve),
    )


def length_correlation(readings: Iterable[RewardReading]) -> float:
    """Spearman's correlation of reward and number of scored tokens; NaN where one of them is constant."""
    rows = list(readings)
    rewards = [value for r in rows for value in (r.demonstration_reward, r.other_reward)]
    tokens = [value for r in rows for value in (r.demonstration_tokens, r.other_tokens)]
    if len(set(rewards)) < 2 or len(set(tokens)) < 2:
        return math.nan
    correlation, _ = spearmanr(rewards, tokens)
    return float(correlation)  # pyright: ignore[reportArgumentType]


def warnings(readings: Sequence[RewardReading]) -> list[str]:
    """Say which rule of thumb does as well as the model on the same pairs, and whether length explains its rewards.

    Args:
        readings: one model's, of its own category, hard negatives included.
    """
    count, won = len(readings), accuracy(readings).hits
    found = [
        f"choosing {name} is right on {hits} of {count} pairs, this model on {won}: it may know no more than that rule"
        for name, rule in RULES.items()
        if count and (hits := sum(map(rule, readings))) >= won
    ]
    correlation = length_correlation(reading for reading in readings if reading.kind == COMPLETION)
    if abs(correlation) > _MAX_LENGTH_CORRELATION:
        found.append(f"its rewards go with length (Spearman {correlation:.2f}): it may know length alone")
    return found
