"""The table of docs/models.md: `PYTHONPATH=tests/support python -m model_table [FAMILY ...]` prints it."""

import re
import sys
from dataclasses import dataclass

from families import FAMILIES, NOT_TRIED, tiny_causal_lm

from dr_irl.errors import ModelError
from dr_irl.language.proof.check import find_route

ROW = re.compile(
    r"^\| `(?P<family>[^`]+)` \| (?P<scores>[^|]+) \| (?P<samples>[^|]+) \| (?P<why>[^|]*) \|$", re.MULTILINE
)


@dataclass(frozen=True)
class Row:
    """What the self-check finds of a family."""

    family: str
    scores: str
    samples: str
    why: str

    def __str__(self) -> str:
        return f"| `{self.family}` | {self.scores} | {self.samples} | {self.why} |"


def measured(family: str) -> Row:
    """Look at a tiny model of a family."""
    if family in NOT_TRIED:
        return Row(family, "not tried", "not tried", NOT_TRIED[family])
    try:
        route = find_route(tiny_causal_lm(family), family)
    except ModelError as error:
        why = "reads both ways" if "is no causal language model" in str(error) else "fails by itself"
        return Row(family, "refused", "refused", why)
    return Row(family, route.scoring.value, route.decoding.value, _in_short(route.reason))


def _in_short(reason: str) -> str:
    """Leave out what another version or machine words or computes otherwise."""
    reasons = [
        part.partition(": ")
        for part in re.findall(r"(?:split|rows|alone|shared|cached|whole): .*?(?=; \w+: |$)", reason)
    ]
    return ", ".join(
        f"{rung} {'gives other numbers' if why.startswith('off by') else 'does not run'}" for rung, _, why in reasons
    )


if __name__ == "__main__":
    for each in sys.argv[1:] or FAMILIES:
        print(measured(each), flush=True)
