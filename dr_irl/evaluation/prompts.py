"""Which prompts a model is asked: those of each suite, or as many of them as there is time for."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.evaluation.suites import HARMFUL, Suite, own_prompts
from dr_irl.records import Example


def evaluation_prompts(
    examples: Sequence[Example],
    suites: Iterable[Suite],
    *,
    per_category: int,
    per_suite: int,
    generator: np.random.Generator,
) -> dict[str, list[Example]]:
    """Choose prompts of each suite.

    Args:
        examples: rows of the data; only held-out ones are asked.
        suites: in their order, which the draws depend on.
        per_category: at most so many harmful prompts of each harm category.
        per_suite: at most so many prompts of each other suite.
        generator: draws where there are more.

    Returns:
        Suite -> its prompts.
    """
    heldout = [example for example in examples if example.split == "heldout"]
    chosen: dict[str, list[Example]] = {}
    for suite in suites:
        rows = [e for e in heldout if suite.belongs(str(e.category), e.source)] if suite.belongs else _brought(suite)
        if suite.name == HARMFUL:
            parts = [[e for e in rows if e.category == category] for category in HARM_CATEGORIES]
            chosen[suite.name] = [e for part in parts for e in _sample(part, per_category, generator)]
        else:
            chosen[suite.name] = _sample(rows, per_suite, generator)
    return chosen


def _brought(suite: Suite) -> list[Example]:
    """Make rows of the prompts that a suite brings itself; those to be refused are of no harm category of ours."""
    return [
        Example(
            id=hashlib.sha256(prompt.encode()).hexdigest()[:16],
            prompt=prompt,
            category=suite.name if suite.refuse else BENIGN,
            source=suite.name,
            split="heldout",
            draft=(),
            response=None,
            confidence=None,
        )
        for prompt in own_prompts(suite)
    ]


def _sample(examples: Sequence[Example], count: int, generator: np.random.Generator) -> list[Example]:
    ordered = sorted(examples, key=lambda example: example.id)
    if len(ordered) <= count:
        return ordered
    return [ordered[i] for i in sorted(generator.choice(len(ordered), size=count, replace=False))]
