from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dr_irl.demonstrations.route import Router, sample_labelled
from dr_irl.errors import DataError
from dr_irl.records import Example

Make = Callable[..., Example]


class FirstLetter:
    """An encoder that sees only the first letter: prompts in "a" lie opposite to those in "b", all others between."""

    def encode(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        places = {"a": (1.0, 0.0), "b": (-1.0, 0.0)}
        return np.array([places.get(text[0], (0.0, 1.0)) for text in texts], dtype=np.float32)


@pytest.fixture(params=[4, 40], ids=["plain", "calibrated"])
def labelled(request: pytest.FixtureRequest, make_example: Make) -> list[Example]:
    insults = [make_example(f"a{i}") for i in range(request.param)]
    return insults + [make_example(f"b{i}", category="benign") for i in range(request.param)]


def test_a_prompt_gets_the_category_of_its_neighbours(labelled: list[Example], make_example: Make) -> None:
    unnamed = [make_example("b new", category=None), make_example("a new", category=None)]
    kept, dropped = Router.fit(labelled, FirstLetter()).route(unnamed, FirstLetter(), min_confidence=0.5)
    assert [e.category for e in kept] == ["benign", "insult"]
    assert dropped == []


def test_confidence_is_kept_in_the_column(labelled: list[Example], make_example: Make) -> None:
    router = Router.fit(labelled, FirstLetter())
    kept, _ = router.route([make_example("a new", category=None)], FirstLetter(), min_confidence=0.0)
    assert kept[0].confidence is not None
    assert 0.5 < kept[0].confidence <= 1


def test_a_prompt_between_the_classes_is_dropped_and_counted(labelled: list[Example], make_example: Make) -> None:
    router = Router.fit(labelled, FirstLetter())
    unnamed = [make_example("zebra", category=None), make_example("a new", category=None)]
    kept, dropped = router.route(unnamed, FirstLetter(), min_confidence=0.6)
    assert [e.prompt for e in kept] == ["a new"]
    assert dropped == [(unnamed[0], "router abstained")]


def test_rows_with_a_category_are_left_alone(labelled: list[Example]) -> None:
    router = Router.fit(labelled, FirstLetter())
    mislabelled = replace(labelled[0], category="privacy_property")
    kept, _ = router.route([mislabelled, replace(labelled[1], category=None)], FirstLetter(), min_confidence=0.5)
    assert kept[0] == mislabelled


def test_separable_classes_are_cross_validated_as_such(labelled: list[Example]) -> None:
    assert Router.fit(labelled, FirstLetter()).cross_validated_accuracy == 1.0


def test_fitting_is_deterministic(labelled: list[Example], make_example: Make) -> None:
    unnamed = [make_example("zebra", category=None)]
    routed = [Router.fit(labelled, FirstLetter()).route(unnamed, FirstLetter(), min_confidence=0.0) for _ in range(2)]
    assert routed[0] == routed[1]


def test_a_class_of_one_row_leaves_the_accuracy_out(make_example: Make) -> None:
    router = Router.fit([make_example("a"), make_example("b", category="benign")], FirstLetter())
    assert router.cross_validated_accuracy is None


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({}, r"insult \(2 rows\)"),  # one class
        ({"category": None}, "none"),
        ({"category": "benign", "split": "heldout"}, r"insult \(1 rows\)"),  # held-out labels teach nothing
        ({"category": "benign", "confidence": 0.9}, r"insult \(1 rows\)"),  # nor do routed ones
    ],
)
def test_fewer_than_two_classes_are_an_error(make_example: Make, changes: dict[str, Any], seen: str) -> None:
    first = make_example("a", category=None) if changes == {"category": None} else make_example("a")
    with pytest.raises(DataError, match=f"are of {seen}; it needs at least two of insult, "):
        Router.fit([first, make_example("b", **changes)], FirstLetter())


def test_the_likeliest_category_comes_with_its_probability(labelled: list[Example]) -> None:
    router = Router.fit(labelled, FirstLetter())
    [(first, sure), (second, _), (_, unsure)] = router.likeliest(["b new", "a new", "zebra"], FirstLetter())
    assert (first, second) == ("benign", "insult")
    assert 0.5 <= unsure < sure <= 1


def test_the_likeliest_category_is_the_one_routed_to(labelled: list[Example], make_example: Make) -> None:
    router = Router.fit(labelled, FirstLetter())
    [routed], _ = router.route([make_example("a new", category=None)], FirstLetter(), min_confidence=0.0)
    assert router.likeliest(["a new"], FirstLetter()) == [(routed.category, routed.confidence)]


def test_a_sample_has_so_many_different_rows_of_each_label(make_example: Make) -> None:
    insults = [make_example(f"a{i}") for i in range(9)]
    benign = [make_example(f"b{i}", category="benign") for i in range(2)]
    drawn = sample_labelled([*insults, *insults, *benign], per_label=4, generator=np.random.default_rng(0))
    assert sorted(e.category or "" for e in drawn) == ["benign"] * 2 + ["insult"] * 4
    assert len({e.id for e in drawn}) == 6


def test_a_sample_is_not_the_beginning(make_example: Make) -> None:
    rows = [make_example(f"a{i}") for i in range(100)]
    drawn = sample_labelled(rows, per_label=10, generator=np.random.default_rng(0))
    assert max(rows.index(row) for row in drawn) > 50


@pytest.mark.parametrize("changes", [{"category": None}, {"split": "heldout"}, {"confidence": 0.9}])
def test_a_sample_has_only_rows_that_teach_the_router(make_example: Make, changes: dict[str, Any]) -> None:
    rows = [make_example("a", **changes), make_example("b")]
    assert [e.id for e in sample_labelled(rows, per_label=9, generator=np.random.default_rng(0))] == ["b"]
