"""Signs that a policy collapses: it says the same to everything, or has no choice left in what it says."""

from collections.abc import Sequence

from dr_irl.categories import BENIGN
from dr_irl.policy.options import GrpoOptions
from dr_irl.records import StepRecord


def collapse_signs(records: Sequence[StepRecord], options: GrpoOptions) -> list[str]:
    """Say what in the records of one step is beyond its limit; empty where nothing is, or nobody asks."""
    if options.alarm == "off":
        return []
    found = {(record.name, record.category): record.value for record in records}
    signs = [
        f"{share:.0%} of the completions to {kind} prompts begin with the same four words "
        f"({options.max_commonest_prefix:.0%} allowed by grpo.max_commonest_prefix)"
        for category, kind in (("all", "harmful"), (BENIGN, "benign"))
        if (share := found.get(("commonest_prefix", category), 0.0)) > options.max_commonest_prefix
    ]
    entropy = found[("entropy", "all")]
    if entropy < options.min_entropy:
        signs.append(f"the policy's entropy is {entropy:.3g} nats (grpo.min_entropy is {options.min_entropy:g})")
    return signs
