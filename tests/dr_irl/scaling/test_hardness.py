"""Clauses, similarities and data hardness, worked by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.scaling.hardness import clause_similarity, data_hardness, distances, split_clauses

UNIT = st.floats(0, 1)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def directions(texts: Sequence[str]) -> np.ndarray:
    """Honest fake encoder: the direction of a text is its number of letters a and of letters b."""
    counts = np.array([[text.count("a"), text.count("b")] for text in texts], dtype=np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", []),
        ("  \n ", []),
        ("just a few words without an end", ["just a few words without an end"]),
        ("I will not help. Please call a doctor.", ["I will not help.", "Please call a doctor."]),
        ("I talked to Dr. Smith about it.", ["I talked to Dr. Smith about it."]),
        ("Please always wear something, e.g. a mask.", ["Please always wear something, e.g. a mask."]),
        ("The price of it is 3.5 dollars each.", ["The price of it is 3.5 dollars each."]),
        ("The train leaves us at 10:30 every day.", ["The train leaves us at 10:30 every day."]),
        ("I cannot do that, but I can listen.", ["I cannot do that,", "but I can listen."]),
        ("It is very wrong - you could hurt him.", ["It is very wrong", "you could hurt him."]),
        ("1. Open the door.\n2. Leave the room.", ["1. Open the door.", "2. Leave the room."]),
        ("No. I would never do that.", ["No. I would never do that."]),
        ("I would never do that. Sorry.", ["I would never do that. Sorry."]),
        ('He said "leave me alone now." Then he went away.', ['He said "leave me alone now."', "Then he went away."]),
        ("我不能帮你做这件事。请你联系医生；他会帮助你。", ["我不能帮你做这件事。", "请你联系医生；", "他会帮助你。"]),
        ("他对我说：“不可以这样做。”然后他走了。", ["他对我说：", "“不可以这样做。”", "然后他走了。"]),
    ],
)
def test_clauses(text: str, clauses: list[str]) -> None:
    assert split_clauses(text) == clauses


@given(st.text(alphabet="ab .,!?\n-。", max_size=60))
def test_splitting_loses_no_letter(text: str) -> None:
    assert [c for c in "".join(split_clauses(text)) if c in "ab"] == [c for c in text if c in "ab"]


def test_similarity_takes_the_best_match_of_each_clause() -> None:
    completion = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    demonstration = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    # best matches: 1 (first), 0.6 (second), max(0.6, 0.96) = 0.96
    assert clause_similarity(completion, demonstration) == pytest.approx((1 + 0.6 + 0.96) / 3)


def test_opposite_texts_have_similarity_zero() -> None:
    assert clause_similarity(torch.tensor([[-1.0, 0.0]]), torch.tensor([[1.0, 0.0]])) == 0.0


def test_text_without_clauses_is_like_nothing() -> None:
    assert clause_similarity(torch.zeros(0, 2), torch.tensor([[1.0, 0.0]])) == 0.0


def test_distance_by_clauses() -> None:
    # the first clause is the demonstration's direction, the second is orthogonal to it: W = 1/2
    found = distances(["a a a. b b b."], ["aa aa aa."], directions, level="clauses")
    assert found == pytest.approx([0.5])


def test_distance_of_whole_texts() -> None:
    # (3, 3) against (6, 0): cosine 1 / sqrt(2)
    found = distances(["a a a. b b b."], ["aa aa aa."], directions, level="whole")
    assert found == pytest.approx([1 - 1 / math.sqrt(2)])


@pytest.mark.parametrize("level", ["clauses", "whole"])
def test_empty_completion_is_as_far_as_can_be(level: str) -> None:
    assert distances(["", "a a a"], ["a a a", "a a a"], directions, level=level) == pytest.approx([1.0, 0.0])


def test_only_empty_texts_need_no_encoder() -> None:
    assert distances([""], [" "], directions, level="clauses") == [1.0]


def test_each_distinct_clause_is_encoded_once() -> None:
    asked: list[str] = []

    def encode(texts: Sequence[str]) -> np.ndarray:
        asked.extend(texts)
        return directions(texts)

    distances(["a a a. b b b.", "a a a."], ["b b b.", "b b b."], encode, level="clauses")
    assert asked == ["a a a.", "b b b."]


def test_data_hardness_by_hand() -> None:
    found = data_hardness(torch.tensor([0.5, 0.25]), torch.tensor([0.25, 0.25]), kappa=2.0)
    assert found.tolist() == pytest.approx([sigmoid(1.0) / sigmoid(0.5), 1.0])


@given(own=UNIT, category=UNIT)
def test_data_hardness_stays_in_the_published_range(own: float, category: float) -> None:
    factor = data_hardness(torch.tensor([own]), torch.tensor([category]), kappa=1.0).item()
    assert sigmoid(0) / sigmoid(1) - 1e-6 <= factor <= sigmoid(1) / sigmoid(0) + 1e-6


@given(near=UNIT, far=UNIT, category=UNIT)
def test_farther_prompts_weigh_no_less(near: float, far: float, category: float) -> None:
    pair = torch.tensor(sorted([near, far]))
    low, high = data_hardness(pair, torch.tensor([category, category]), kappa=1.0).tolist()
    assert low <= high
