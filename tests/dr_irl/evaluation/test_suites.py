"""Which held-out prompts a model is asked."""

from collections import Counter

import pytest

from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.evaluation.suites import HARMFUL, LOOKALIKE, ORDINARY, evaluation_prompts, suite_of
from dr_irl.records import Example
from dr_irl.seeding import numpy_generator


def example(name: str, category: str, source: str = "direct", split: str = "heldout") -> Example:
    return Example(
        id=name, prompt=name, category=category, source=source, split=split, draft=(), response=None, confidence=None
    )


EXAMPLES = [example(f"{c}-{n}", c) for c in HARM_CATEGORIES for n in range(5)]
EXAMPLES += [example(f"{kind}-{n}", BENIGN, kind) for kind in ("ordinary", "lookalike") for n in range(6)]
EXAMPLES += [example(f"trained-{n}", "insult", split="train") for n in range(5)]


def chosen(examples: list[Example] = EXAMPLES, *, per_category: int = 3, ordinary: int = 4, seed: int = 0) -> list[str]:
    generator = numpy_generator(seed, "suites")
    return [
        e.id for e in evaluation_prompts(examples, per_category=per_category, ordinary=ordinary, generator=generator)
    ]


@pytest.mark.parametrize(
    ("category", "source", "suite"),
    [
        ("insult", "direct", HARMFUL),
        ("insult", "lookalike", HARMFUL),
        (BENIGN, "lookalike", LOOKALIKE),
        (BENIGN, "ordinary", ORDINARY),
        (BENIGN, "a file of somebody's", ORDINARY),
    ],
)
def test_suite_of_a_prompt(category: str, source: str, suite: str) -> None:
    assert suite_of(example("x", category, source)) == suite


def test_each_category_and_suite_has_its_count() -> None:
    counts = Counter(name.rsplit("-", 1)[0] for name in chosen())
    assert counts == dict.fromkeys(HARM_CATEGORIES, 3) | {"ordinary": 4, "lookalike": 4}


def test_training_prompts_are_never_asked() -> None:
    assert not [name for name in chosen(per_category=100, ordinary=100) if name.startswith("trained")]


def test_small_suites_are_asked_whole() -> None:
    assert len(chosen(per_category=100, ordinary=100)) == 7 * 5 + 2 * 6


def test_same_seed_chooses_the_same_prompts() -> None:
    assert chosen(seed=3) == chosen(seed=3)


def test_other_seed_chooses_others() -> None:
    assert chosen(seed=3) != chosen(seed=4)


def test_choice_does_not_depend_on_the_order_of_the_examples() -> None:
    assert chosen(EXAMPLES[::-1]) == chosen()
