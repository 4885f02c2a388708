"""Refuses data that teaches to comply: harm categories whose demonstrations mostly do not decline."""

from collections import defaultdict
from collections.abc import Iterable

from dr_irl.categories import BENIGN
from dr_irl.errors import DataError
from dr_irl.evaluation.judges import Judge
from dr_irl.records import Example

LEAST_SHARE = 0.5
"""Of a category's demonstrations in one file that must decline."""
FEWEST_ROWS = 5
"""Of a category in one file, below which it is judged with those of all files only."""


def require_declining(examples: Iterable[Example], judge: Judge) -> None:
    """See that most demonstrations of each harm category decline, in each file and in all together.

    Args:
        examples: rows with a demonstration.
        judge: tells refusals; answers that it cannot tell do not count.

    Raises:
        DataError: those of a category mostly do not decline.
    """
    verdicts: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    for example in examples:
        if example.category in (None, BENIGN) or example.response is None:
            continue
        if (declines := judge(example.prompt, example.response)) is not None:
            verdicts[str(example.category), example.file].append(declines)
            verdicts[str(example.category), ""].append(declines)
    for (category, file), declines in sorted(verdicts.items()):
        if sum(declines) < LEAST_SHARE * len(declines) and (not file or len(declines) >= FEWEST_ROWS):
            where = f"source {file!r}" if file else "all sources together"
            raise DataError(
                f"{where}: {len(declines) - sum(declines)} of {len(declines)} demonstrations of {category} do not "
                f"decline; a reward model would learn to want such answers; allowed is up to {1 - LEAST_SHARE:.0%}; "
                "leave these rows out, give each prompt an answer that declines, or set balance.allow_compliance=true"
            )
