"""Similarities, distances and data hardness, worked by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.errors import ModelError
from dr_irl.scaling.clauses import split_clauses
from dr_irl.scaling.hardness import ClauseEmbeddings, Level, clause_similarity, data_hardness, distances

UNIT = st.floats(0, 1)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def directions(texts: Sequence[str]) -> np.ndarray:
    """Honest fake encoder: the direction of a text is its number of letters a and of letters b."""
    counts = np.array([[text.count("a"), text.count("b")] for text in texts], dtype=np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


class Asked:
    """The same encoder, noting every list of texts that it is asked for."""

    def __init__(self) -> None:
        self.texts: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.texts.append(list(texts))
        return directions(texts)


def similarity(completion: list[list[float]], demonstration: list[list[float]]) -> float:
    rows, other = (np.array(v, dtype=np.float32).reshape(-1, 2) for v in (completion, demonstration))
    return clause_similarity(rows, np.array([len(rows)]), other).item()


def test_similarity_takes_the_best_match_of_each_clause() -> None:
    # best matches: 1 (first), 0.6 (second), max(0.6, 0.96) = 0.96
    found = similarity([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], [[1.0, 0.0], [0.8, 0.6]])
    assert found == pytest.approx((1 + 0.6 + 0.96) / 3)


def test_clauses_count_for_their_own_completion() -> None:
    # cosines with (1, 0): 1 | none | 0.6, 0, so means 1, 0, 0.3
    rows = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    found = clause_similarity(rows, np.array([1, 0, 2]), np.array([[1.0, 0.0]]))
    assert found.tolist() == pytest.approx([1.0, 0.0, 0.3])


def test_opposite_texts_have_similarity_zero() -> None:
    assert similarity([[-1.0, 0.0]], [[1.0, 0.0]]) == 0.0


def test_similarity_never_exceeds_one() -> None:
    """Rounding makes the square of a unit vector larger than 1 now and then."""
    assert similarity([[1.001, 0.0]], [[1.0, 0.0]]) == 1.0


@pytest.mark.parametrize(("completion", "demonstration"), [([], [[1.0, 0.0]]), ([[1.0, 0.0]], [])])
def test_text_without_clauses_is_like_nothing(completion: list[list[float]], demonstration: list[list[float]]) -> None:
    assert similarity(completion, demonstration) == 0.0


def test_distance_by_clauses() -> None:
    # the first clause is the demonstration's direction, the second is orthogonal to it: W = 1/2
    found = distances(["a a a. b b b."], ["aa aa aa."], directions, level="clauses")
    assert found == pytest.approx([0.5])


def test_distance_of_whole_texts() -> None:
    # (3, 3) against (6, 0): cosine 1 / sqrt(2)
    found = distances(["a a a. b b b."], ["aa aa aa."], directions, level="whole")
    assert found == pytest.approx([1 - 1 / math.sqrt(2)])


@pytest.mark.parametrize("level", ["clauses", "whole"])
def test_empty_completion_is_as_far_as_can_be(level: Level) -> None:
    assert distances(["", "a a a"], ["a a a", "a a a"], directions, level=level) == pytest.approx([1.0, 0.0])


def test_only_empty_texts_need_no_encoder() -> None:
    assert distances([""], [" "], directions, level="clauses") == [1.0]


def test_each_distinct_clause_of_completions_is_encoded_once_the_shortest_first() -> None:
    asked = Asked()
    distances(["aaa aa a. b b b.", "a a a. b b b."], ["bb bb bb.", "bb bb bb."], asked, level="clauses")
    assert asked.texts == [["bb bb bb."], ["a a a.", "b b b.", "aaa aa a."]]


def test_each_demonstration_is_encoded_alone() -> None:
    asked = Asked()
    distances(["a a a.", "a a a."], ["b b b. a b b.", "a a b."], asked, level="clauses")
    assert asked.texts == [["b b b.", "a b b."], ["a a b."], ["a a a."]]


answers = st.lists(st.sampled_from(["a a a.", "b b b.", "a ab ab.", "bb ab b."]), max_size=3).map(" ".join)


@given(st.lists(st.tuples(answers, answers), max_size=6))
def test_distances_are_those_of_each_pair_on_its_own(pairs: list[tuple[str, str]]) -> None:
    def alone(completion: str, demonstration: str) -> float:
        clauses, others = split_clauses(completion), split_clauses(demonstration)
        if not clauses or not others:
            return 1.0
        return 1.0 - float((directions(clauses) @ directions(others).T).max(axis=1).mean())

    found = distances([c for c, _ in pairs], [d for _, d in pairs], directions, level="clauses")
    assert found == pytest.approx([alone(*pair) for pair in pairs], abs=1e-5)


@given(st.lists(st.tuples(answers, answers), max_size=6).flatmap(lambda p: st.tuples(st.just(p), st.permutations(p))))
def test_batches_of_the_encoder_do_not_depend_on_the_order_of_pairs(found: tuple[list, list]) -> None:
    asked = Asked(), Asked()
    for pairs, encode in zip(found, asked, strict=True):
        distances([c for c, _ in pairs], [d for _, d in pairs], encode, level="clauses")
    assert sorted(asked[0].texts) == sorted(asked[1].texts)


def test_demonstrations_are_encoded_once_for_all_calls() -> None:
    asked = Asked()
    embeddings = ClauseEmbeddings(asked, level="clauses")
    for completion in ("a a a.", "b b b."):
        embeddings.distances([completion], ["ab ab ab."])
    assert asked.texts == [["ab ab ab."], ["a a a."], ["b b b."]]


def test_what_is_kept_changes_no_batch_of_completions() -> None:
    """In its last bits an embedding depends on its batch, and a run that was killed has kept nothing."""
    asked = Asked(), Asked()
    kept, fresh = (ClauseEmbeddings(encode, level="clauses") for encode in asked)
    kept.distances(["b b b."], ["a a a."])
    for embeddings in (kept, fresh):
        embeddings.distances(["a a a. b b b."], ["a a a."])
    assert asked[0].texts[-1] == asked[1].texts[-1] == ["a a a.", "b b b."]


def test_completions_are_not_kept() -> None:
    embeddings = ClauseEmbeddings(directions, level="clauses")
    embeddings.distances(["a a a."], ["ab ab ab."])
    assert list(embeddings.kept) == ["ab ab ab."]


def test_embeddings_kept_from_before_are_used() -> None:
    # kept: a direction that the encoder would not give, orthogonal to the completion's
    embeddings = ClauseEmbeddings(directions, level="clauses", kept={"a a a.": np.array([[0.0, 1.0]])})
    assert embeddings.distances(["aa aa aa."], ["a a a."]) == [1.0]


def test_embeddings_of_another_length_than_the_kept_are_refused() -> None:
    embeddings = ClauseEmbeddings(directions, level="clauses", kept={"a a a.": np.array([[0.0, 1.0, 0.0]])})
    with pytest.raises(ModelError, match="embeddings of 2 numbers, and kept ones have 3"):
        embeddings.distances(["aa aa aa."], ["a a a."])


def test_embeddings_that_are_not_finite_are_refused() -> None:
    def encode(texts: Sequence[str]) -> np.ndarray:
        return np.where([["b" in text] for text in texts], np.nan, directions(texts))

    with pytest.raises(ModelError, match=r"1 of 1 embeddings are not finite; check the weights of models.encoder"):
        distances(["a a a."], ["b b b."], encode, level="clauses")


def test_data_hardness_by_hand() -> None:
    # kappa 2: s(2 * 0.5) / s(2 * 0.25), and s(0.5) / s(0.5)
    found = data_hardness(torch.tensor([0.5, 0.25]), torch.tensor([0.25, 0.25]), kappa=2.0)
    assert found.tolist() == pytest.approx([sigmoid(1.0) / sigmoid(0.5), 1.0])


@given(own=UNIT, category=UNIT)
def test_data_hardness_stays_in_the_published_range(own: float, category: float) -> None:
    factor = data_hardness(torch.tensor([own]), torch.tensor([category]), kappa=1.0).item()
    assert sigmoid(0) / sigmoid(1) - 1e-6 <= factor <= sigmoid(1) / sigmoid(0) + 1e-6


@given(own=UNIT, category=UNIT, kappa=st.floats(-50, 50))
def test_data_hardness_is_positive(own: float, category: float, kappa: float) -> None:
    assert data_hardness(torch.tensor([own]), torch.tensor([category]), kappa=kappa).item() > 0


@given(own=UNIT, kappa=st.floats(-50, 50))
def test_prompt_as_far_as_its_category_has_data_hardness_one(own: float, kappa: float) -> None:
    assert data_hardness(torch.tensor([own]), torch.tensor([own]), kappa=kappa).item() == 1.0


@given(near=UNIT, far=UNIT, category=UNIT)
def test_farther_prompts_weigh_no_less(near: float, far: float, category: float) -> None:
    pair = torch.tensor(sorted([near, far]))
    low, high = data_hardness(pair, torch.tensor([category, category]), kappa=1.0).tolist()
    assert low <= high
