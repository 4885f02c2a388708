"""Makes the categories equal, and measures how equal they are."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from dr_irl.categories import ALL_LABELS, BENIGN, HARM_CATEGORIES
from dr_irl.demonstrations.dedupe import LeftOut
from dr_irl.errors import DataError
from dr_irl.records import Example
from dr_irl.results.summaries import BalanceSummary

NEWEST_SHARE = 0.5
"""Of a category's rows, the share that new findings may fill first; the rest keeps what was learnt from the past."""


def wanted_rows(rows_per_category: int, benign_rows: int) -> dict[str, int]:
    """Return how many rows of each label are wanted: of the harm categories equally many."""
    return dict.fromkeys(HARM_CATEGORIES, rows_per_category) | {BENIGN: benign_rows}


def balance(
    examples: Sequence[Example],
    wanted: Mapping[str, int],
    *,
    newest: Sequence[Collection[str]] = (),
    allow_repeats: bool,
    generator: np.random.Generator,
) -> list[Example]:
    """Draw as many training rows with a demonstration as are wanted of every label.

    Up to `NEWEST_SHARE` of a label's rows come from the newest findings: chance would leave them out as soon as there
    are more rows than are wanted. Among the others the sources are as even as they can be. The order of `examples`
    does not matter; the result is ordered by category, then id.

    Args:
        examples: rows of any split.
        wanted: label -> rows, for every label.
        newest: ids of new findings, the newest set first.
        allow_repeats: fill a light category by repeating rows.
        generator: draws the rows.

    Raises:
        DataError: a category has too few rows; with `allow_repeats`, none at all.
    """
    pools = {label: _pool(examples, label) for label in ALL_LABELS}
    _require_enough(pools, wanted, allow_repeats)
    drawn: list[Example] = []
    for label, pool in pools.items():
        repeats, rest = divmod(wanted[label], len(pool)) if pool else (0, 0)
        first = _draw_newest(pool, newest, math.ceil(rest * NEWEST_SHARE), generator)
        taken = {example.id for example in first}
        others = [example for example in pool if example.id not in taken]
        rows = pool * repeats + first + _draw_evenly(others, rest - len(first), generator)
        drawn += sorted(rows, key=lambda example: example.id)
    return drawn


def with_demonstration(examples: Sequence[Example]) -> tuple[list[Example], LeftOut]:
    """Leave out training rows that demonstrate nothing."""
    lacking = [e.split == "train" and e.response is None for e in examples]
    kept = [example for example, lacks in zip(examples, lacking, strict=True) if not lacks]
    return kept, [(e, "no demonstration") for e, lacks in zip(examples, lacking, strict=True) if lacks]


def not_drawn(examples: Sequence[Example], drawn: Sequence[Example]) -> LeftOut:
    """Return the training rows that no label wanted."""
    taken = {example.id for example in drawn}
    return [(e, "not drawn: the category has enough") for e in examples if e.split == "train" and e.id not in taken]


def normalised_entropy(counts: Mapping[str, int]) -> float:
    """Entropy of the harm categories over its maximum: 1 where all are equal, 0 where only one has rows."""
    values = [counts.get(category, 0) for category in HARM_CATEGORIES]
    total = sum(values)
    if total == 0:
        return 0.0
    entropy = -sum(n / total * math.log(n / total) for n in values if n)
    return min(1.0, max(0.0, entropy / math.log(len(values))))


def category_counts(examples: Sequence[Example]) -> dict[str, int]:
    """Count the rows of every label, zeros included; rows without a category count nowhere."""
    labels = [example.category for example in examples]
    return {label: labels.count(label) for label in ALL_LABELS}


def summarise_balance(
    before: Sequence[Example], after: Sequence[Example], dropped: Mapping[str, Mapping[str, int]]
) -> BalanceSummary:
    """Compare the training rows before and after balancing; held-out rows are never balanced and do not count."""
    counts_before, counts_after = (category_counts([e for e in rows if e.split == "train"]) for rows in (before, after))
    return BalanceSummary(
        before=counts_before,
        after=counts_after,
        entropy_before=normalised_entropy(counts_before),
        entropy_after=normalised_entropy(counts_after),
        dropped={file: dict(reasons) for file, reasons in dropped.items()},
    )


def _pool(examples: Sequence[Example], label: str) -> list[Example]:
    """Return the usable rows of one label by id; a row given twice is one row."""
    rows = {e.id: e for e in examples if e.split == "train" and e.category == label and e.response is not None}
    return [rows[key] for key in sorted(rows)]


def _require_enough(pools: Mapping[str, Sequence[Example]], wanted: Mapping[str, int], allow_repeats: bool) -> None:
    least = {label: min(1, rows) if allow_repeats else rows for label, rows in wanted.items()}
    short = [f"{label} has {len(pool)} of {wanted[label]}" for label, pool in pools.items() if len(pool) < least[label]]
    if not short:
        return
    advice = "add sources, let demonstrations.generator write more, or lower balance.rows_per_category"
    if any(label == BENIGN and len(pool) < least[label] for label, pool in pools.items()):
        advice += " or balance.benign_rows"
    if not allow_repeats:
        advice += ", or set balance.allow_repeats"
    raise DataError(f"too few training rows with a demonstration: {'; '.join(short)}; {advice}")


def _draw_newest(
    pool: Sequence[Example], newest: Sequence[Collection[str]], most: int, generator: np.random.Generator
) -> list[Example]:
    drawn: dict[str, Example] = {}
    for ids in newest:
        rows = [example for example in pool if example.id in ids and example.id not in drawn]
        chosen = _draw_evenly(rows, min(most - len(drawn), len(rows)), generator)
        drawn |= {example.id: example for example in chosen}
    return list(drawn.values())


def _draw_evenly(pool: Sequence[Example], wanted: int, generator: np.random.Generator) -> list[Example]:
    sources = {source: [e for e in pool if e.source == source] for source in sorted({e.source for e in pool})}
    drawn: list[Example] = []
    for source, quota in _quotas({source: len(rows) for source, rows in sources.items()}, wanted).items():
        rows = sources[source]
        drawn += [rows[i] for i in generator.choice(len(rows), size=quota, replace=False)]
    return drawn


def _quotas(available: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Share `wanted` rows out: a small source gives all it has, the larger ones share the rest equally."""
    quotas: dict[str, int] = {}
    smallest_first = sorted(available.items(), key=lambda item: (item[1], item[0]))
    for position, (source, count) in enumerate(smallest_first):
        quotas[source] = min(count, (wanted - sum(quotas.values())) // (len(smallest_first) - position))
    return quotas
