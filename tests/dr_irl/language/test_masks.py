"""Padding, positions and micro-batches, by hand and by property."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.language.masks import micro_batches, pad_left, pad_right, positions

LENGTHS = st.lists(st.integers(1, 50), max_size=20)


def test_padding_on_the_left_ends_every_row_with_its_tokens() -> None:
    ids, mask = pad_left([[5, 6, 7], [8]], fill=0)
    assert (ids.tolist(), mask.tolist()) == ([[5, 6, 7], [0, 0, 8]], [[True] * 3, [False, False, True]])


def test_padding_on_the_right_starts_every_row_with_its_tokens() -> None:
    ids, mask = pad_right([[5, 6, 7], [8]], fill=0)
    assert (ids.tolist(), mask.tolist()) == ([[5, 6, 7], [8, 0, 0]], [[True] * 3, [True, False, False]])


@pytest.mark.parametrize("pad", [pad_left, pad_right])
def test_a_token_equal_to_the_fill_counts(pad: object) -> None:
    assert pad([[0, 0], [1]], fill=0)[1][0].all()  # pyright: ignore[reportCallIssue]


def test_positions_count_real_tokens_from_zero() -> None:
    mask = torch.tensor([[False, False, True, True], [True, True, True, True]])
    assert positions(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


def test_rows_of_similar_length_share_a_micro_batch() -> None:
    # longest first: 9 alone (2 x 9 > 10); 5 and 4 as 2 x 5; 1 alone
    assert micro_batches([4, 9, 1, 5], max_tokens=10) == [[1], [3, 0], [2]]


@given(LENGTHS, st.integers(1, 60))
def test_every_row_is_in_one_micro_batch(lengths: list[int], limit: int) -> None:
    assert sorted(row for group in micro_batches(lengths, limit) for row in group) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 60))
def test_a_micro_batch_keeps_the_limit_unless_one_row_exceeds_it(lengths: list[int], limit: int) -> None:
    sizes = [(len(group), max(lengths[row] for row in group)) for group in micro_batches(lengths, limit)]
    assert [size for size in sizes if size[0] > 1 and size[0] * size[1] > limit] == []
