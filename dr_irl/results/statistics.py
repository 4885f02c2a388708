"""Shares and means with their intervals, and tests of paired ones. Pure."""

import math
from collections.abc import Sequence

from scipy.stats import t as student_t

from dr_irl.results.summaries import Estimate, Rate

_Z_95 = 1.959963984540054


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share; (0, 1), which says nothing, where nothing was counted.

    Raises:
        ValueError: `hits` is not in 0..count.
    """
    if not 0 <= hits <= count:
        raise ValueError(f"hits = {hits} of count = {count}: hits must lie in 0..count")
    if count == 0:
        return 0.0, 1.0
    share, z2 = hits / count, _Z_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z_95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    # At the ends the bound is exactly 0 or 1; rounding would leave it a hair off.
    low = 0.0 if hits == 0 else centre - half
    high = 1.0 if hits == count else centre + half
    return low, high


def rate(flags: Sequence[bool | None]) -> Rate:
    """Count the hits among the scored flags; None is unscored, and enters no share."""
    scored = [flag for flag in flags if flag is not None]
    low, high = wilson_interval(sum(scored), len(scored))
    return Rate(hits=sum(scored), count=len(scored), low=low, high=high, unscored=len(flags) - len(scored))


def mean_interval(values: Sequence[float]) -> Estimate:
    """Return the mean with its 95 % interval by Student's t; the interval is unbounded for fewer than two values."""
    if not values:
        return Estimate(math.nan, -math.inf, math.inf, 0)
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Estimate(mean, -math.inf, math.inf, len(values))
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = float(student_t.ppf(0.975, len(values) - 1)) * math.sqrt(variance / len(values))
    return Estimate(mean, mean - half, mean + half, len(values))


def paired_difference(mine: Sequence[Sequence[bool | None]], other: Sequence[Sequence[bool | None]]) -> Estimate:
    """Return by how much more often `mine` is true than `other` on the same prompts, with its 95 % interval.

    The difference is taken per prompt and averaged over the runs; the interval is Student's over the prompts, so that
    runs which differ in their seed alone do not count as more prompts. None, unscored, counts as false.

    Args:
        mine: run -> prompt -> flag.
        other: the same runs and prompts of another model.

    Raises:
        ValueError: the two differ in their runs or in their prompts.
    """
    runs = [
        [(a is True) - (b is True) for a, b in zip(flags, others, strict=True)]
        for flags, others in zip(mine, other, strict=True)
    ]
    return mean_interval([math.fsum(values) / len(values) for values in zip(*runs, strict=True)])


def mcnemar(before: Sequence[bool | None], after: Sequence[bool | None]) -> tuple[int, int, float]:
    """Test whether flags changed more often one way than the other: McNemar's exact two-sided test.

    Pairs with an unscored side are left out; pairs that agree carry no information about a change.

    Returns:
        Pairs that became true, pairs that became false, and the p-value (1 where nothing changed).

    Raises:
        ValueError: the two sides differ in length.
    """
    pairs = list(zip(before, after, strict=True))
    gained = sum(1 for old, new in pairs if old is False and new is True)
    lost = sum(1 for old, new in pairs if old is True and new is False)
    changed = gained + lost
    # Integers keep the tail exact; under the null hypothesis `gained` is binomial(changed, 1/2).
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1))
    return gained, lost, min(1.0, 2 * tail / 2**changed)
