"""What a model is asked: a suite is a name and the held-out prompts that belong to it."""

from collections.abc import Sequence

import numpy as np

from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.records import Example

HARMFUL = "harmful"
ORDINARY = "ordinary"
LOOKALIKE = "lookalike"
SUITES = (HARMFUL, ORDINARY, LOOKALIKE)


def suite_of(example: Example) -> str:
    """Name the suite of a held-out prompt: harmful, or one of the two kinds that deserve an answer."""
    if example.category != BENIGN:
        return HARMFUL
    return LOOKALIKE if example.source == LOOKALIKE else ORDINARY


def evaluation_prompts(
    examples: Sequence[Example], *, per_category: int, ordinary: int, generator: np.random.Generator
) -> list[Example]:
    """Choose held-out prompts: at most so many per harm category, and of ordinary and look-alike prompts each."""
    heldout = [example for example in examples if example.split == "heldout"]
    chosen: list[Example] = []
    for category in HARM_CATEGORIES:
        chosen += _sample([e for e in heldout if e.category == category], per_category, generator)
    for suite in (ORDINARY, LOOKALIKE):
        chosen += _sample([e for e in heldout if suite_of(e) == suite], ordinary, generator)
    return chosen


def _sample(examples: Sequence[Example], count: int, generator: np.random.Generator) -> list[Example]:
    ordered = sorted(examples, key=lambda example: example.id)
    if len(ordered) <= count:
        return ordered
    return [ordered[i] for i in sorted(generator.choice(len(ordered), size=count, replace=False))]
