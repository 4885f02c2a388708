"""Leaves out prompts that no model could answer, for they fill its context."""

from collections.abc import Callable, Sequence

from dr_irl.demonstrations.dedupe import LeftOut
from dr_irl.records import Example

Lengths = Callable[[Sequence[str]], Sequence[int]]
"""Prompts -> tokens that each takes, with the template around it."""


def leave_out_too_long(
    examples: Sequence[Example], lengths: Lengths, most_tokens: int | None
) -> tuple[list[Example], LeftOut]:
    """Leave out rows of any split whose prompt leaves no room for an answer.

    Args:
        examples: rows of any split.
        lengths: counts the tokens of prompts; not called where nothing bounds them.
        most_tokens: that a prompt may take; None: any number.
    """
    if most_tokens is None:
        return list(examples), []
    fits = [tokens <= most_tokens for tokens in lengths([example.prompt for example in examples])]
    left_out = [(e, "longer than the model's context") for e, fit in zip(examples, fits, strict=True) if not fit]
    return [example for example, fit in zip(examples, fits, strict=True) if fit], left_out
