"""Holds out a part of the data that came without one: no evaluation of nothing."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace

from dr_irl.categories import ALL_LABELS
from dr_irl.demonstrations.dedupe import cluster
from dr_irl.demonstrations.parse import HELDOUT, TRAIN
from dr_irl.errors import DataError
from dr_irl.records import Example

logger = logging.getLogger(__name__)

ALIKE = 0.4
"""Similarity of two prompts from which both are trained on, or both are held out."""


def hold_out(examples: Sequence[Example], share: float) -> list[Example]:
    """Make a share of the rows of every label held-out ones, where the data has none of that label.

    Whole clusters of similar prompts are held out, so that none of them is near a training prompt; where all prompts of
    a label are alike, single rows are. Which ones depends on the rows' ids alone, not on their order.

    Args:
        examples: rows of any split, in any order; they come out in the same.
        share: of a label's rows; at least one is held out, and one stays.

    Raises:
        DataError: a label has one row only.
    """
    chosen: set[str] = set()
    for label in ALL_LABELS:
        rows = sorted((e for e in examples if e.category == label), key=lambda example: _order(example.id))
        if not rows or any(row.split == HELDOUT for row in rows):
            continue
        rows = [row for row in rows if row.response is not None] or rows
        if len(rows) < 2:
            raise DataError(
                f"{label} has 1 row, and no held-out one; at least 2 are needed, one to train on and one to evaluate "
                "by; add rows of it"
            )
        found = _chosen(rows, max(1, round(share * len(rows))))
        chosen |= {row.id for row in found}
        logger.warning(
            "%s: no file has held-out rows of it; %d of its %d rows are held out", label, len(found), len(rows)
        )
    return [replace(e, split=HELDOUT) if e.id in chosen and e.split == TRAIN else e for e in examples]


def _chosen(rows: Sequence[Example], wanted: int) -> list[Example]:
    found: list[Example] = []
    for members in cluster([row.prompt for row in rows], ALIKE):
        if len(found) >= wanted:
            break
        if len(found) + len(members) <= max(1, len(rows) // 2, wanted) and len(found) + len(members) < len(rows):
            found += [rows[position] for position in members]
    return found or list(rows[: min(wanted, len(rows) - 1)])


def _order(identifier: str) -> str:
    return hashlib.sha256(identifier.encode()).hexdigest()
