"""Signs that a policy collapses: it says the same to everything, or has no choice left in what it says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dr_irl.categories import BENIGN
from dr_irl.records import StepRecord


@dataclass(frozen=True, slots=True)
class AlarmRule:
    """What counts as collapse, and what to do about it."""

    action: Literal["warn", "stop"]
    max_commonest_prefix: float
    """Largest share of completions that may begin alike, among those to harmful prompts and among those to benign."""
    min_entropy: float
    """Least entropy of the policy's next token, in nats."""


def collapse_signs(records: Sequence[StepRecord], rule: AlarmRule) -> list[str]:
    """Say what in the records of one step is beyond its limit; empty where nothing is."""
    found = {(record.name, record.category): record.value for record in records}
    signs = [
        f"{share:.0%} of the completions to {kind} prompts begin with the same four words "
        f"({rule.max_commonest_prefix:.0%} allowed by grpo.max_commonest_prefix)"
        for category, kind in (("all", "harmful"), (BENIGN, "benign"))
        if (share := found.get(("commonest_prefix", category), 0.0)) > rule.max_commonest_prefix
    ]
    entropy = found[("entropy", "all")]
    if entropy < rule.min_entropy:
        signs.append(f"the policy's entropy is {entropy:.3g} nats (grpo.min_entropy is {rule.min_entropy:g})")
    return signs
