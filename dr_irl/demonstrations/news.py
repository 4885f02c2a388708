"""What new files add to the rows that were there: how much of it can be trained on, and what became of the rest."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dr_irl.records import Example


@dataclass(frozen=True, slots=True)
class News:
    """Rows of new files, counted; every row is in one of the first four counts."""

    repeated: int
    """Equal or similar to others."""
    overlapping: int
    """In an evaluation set."""
    abstained: int
    """Without a category that the router is sure of."""
    kept: int
    by_category: Mapping[str, int]
    """Category -> rows kept."""
    routed: int
    """Rows kept whose category the router gave."""
    undemonstrated: int
    """Training rows kept that have no demonstration."""

    def usable(self, *, generated: bool) -> int:
        """Return how many rows a run can use; `generated`: those without a demonstration get one."""
        return self.kept - (0 if generated else self.undemonstrated)

    def __str__(self) -> str:
        """Say it in one sentence, without a word of any row."""
        categories = ", ".join(f"{category} {rows}" for category, rows in sorted(self.by_category.items()))
        return (
            f"{self.repeated + self.overlapping + self.abstained + self.kept} rows: {self.repeated} like others, "
            f"{self.overlapping} in an evaluation set, {self.abstained} of no clear category, {self.kept} kept"
            + (f" ({categories}; {self.routed} by the router)" if self.kept else "")
            + f", {self.undemonstrated} of them without a demonstration"
        )


def count_news(
    new: Sequence[Example],
    past: Sequence[Example],
    *,
    unspoilt: Sequence[Example],
    distinct: Sequence[Example],
    routed: Sequence[Example],
) -> News:
    """Account for every row of new files.

    Args:
        new: the rows of the new files.
        past: the rows of all other files.
        unspoilt: the new rows that overlap no evaluation set.
        distinct: what was left of new and past without duplicates and overlaps.
        routed: what was left of those with a category.
    """
    known, clean = set(past), set(unspoilt)
    added = {example.id: example for example in distinct if example not in known}
    kept = [example for example in routed if example.id in added]
    overlapping = sum(1 for e in new if e not in known and e.id not in added and e not in clean)
    return News(
        repeated=len(new) - len(added) - overlapping,
        overlapping=overlapping,
        abstained=len(added) - len(kept),
        kept=len(kept),
        by_category=Counter(str(example.category) for example in kept),
        routed=sum(example.confidence is not None for example in kept),
        undemonstrated=sum(example.response is None for example in kept if example.split == "train"),
    )
