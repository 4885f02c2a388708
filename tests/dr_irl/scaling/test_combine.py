"""The ways of making one factor of two, and its bounds."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.scaling.combine import Combination, bound_factors, combine_factors

DATA, MODEL = torch.tensor([0.5, 2.0]), torch.tensor([4.0, 1.5])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("product", [2.0, 3.0]),
        ("sum", [0.25 * 0.5 + 0.75 * 4.0, 0.25 * 2.0 + 0.75 * 1.5]),
        ("data", [0.5, 2.0]),
        ("model", [4.0, 1.5]),
        ("none", [1.0, 1.0]),
    ],
)
def test_combination(how: Combination, expected: list[float]) -> None:
    assert combine_factors(DATA, MODEL, how=how, weight=0.25).tolist() == pytest.approx(expected)


def test_factors_are_clipped() -> None:
    found = bound_factors(torch.tensor([0.5, 1.0, 3.0]), clip=(0.8, 2.0), rescale=False)
    assert found.tolist() == pytest.approx([0.8, 1.0, 2.0])


def test_factors_are_rescaled_after_clipping() -> None:
    found = bound_factors(torch.tensor([0.5, 1.0, 3.0]), clip=(0.8, 2.0), rescale=True)
    assert found.tolist() == pytest.approx([0.8 * 3 / 3.8, 3 / 3.8, 2 * 3 / 3.8])


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=5), st.floats(0.1, 1), st.floats(1, 10))
def test_no_factor_leaves_the_bounds(alpha: list[float], low: float, high: float) -> None:
    found = bound_factors(torch.tensor(alpha, dtype=torch.float64), clip=(low, high), rescale=False)
    assert low <= found.min().item() and found.max().item() <= high


def test_without_bounds_nothing_changes() -> None:
    assert bound_factors(DATA, clip=None, rescale=False).tolist() == DATA.tolist()


def test_no_factors_are_no_error() -> None:
    assert bound_factors(torch.zeros(0), clip=None, rescale=True).tolist() == []
