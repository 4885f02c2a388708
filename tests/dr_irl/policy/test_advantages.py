"""Group-relative advantages."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.policy.advantages import Spread, group_advantages, zero_variance

groups = st.lists(st.lists(st.floats(-10, 10), min_size=4, max_size=4), min_size=1, max_size=5)


@given(groups, st.floats(0.1, 5))
def test_advantages_of_a_group_sum_to_zero(rewards: list[list[float]], factor: float) -> None:
    alpha = torch.full((len(rewards),), factor, dtype=torch.float64)
    found = group_advantages(torch.tensor(rewards, dtype=torch.float64), alpha, tolerance=1e-4)
    assert found.sum(dim=1).abs().max().item() < 1e-9


def test_equal_rewards_give_zero_advantage() -> None:
    assert group_advantages(torch.tensor([[0.1, 0.1, 0.1]]), torch.tensor([2.0]), tolerance=0.0).tolist() == [[0, 0, 0]]


def test_rewards_within_the_tolerance_count_as_equal() -> None:
    found = group_advantages(torch.tensor([[1.0, 1.05]]), torch.tensor([1.0]), tolerance=0.1)
    assert found.tolist() == [[0.0, 0.0]]


def test_advantages_by_hand() -> None:
    # mean 2, standard deviation 1 with n - 1; then mean 4, standard deviation 2
    found = group_advantages(torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]), torch.tensor([2.0, 0.5]), tolerance=0.0)
    expected = [-2 / 1.0001, 0, 2 / 1.0001, -1 / 2.0001, 0, 1 / 2.0001]
    assert found.flatten().tolist() == pytest.approx(expected)


def test_spread_of_the_batch_leaves_groups_their_weight() -> None:
    # centred: -1 0 1 and -2 0 2; mean square (1 + 1 + 4 + 4) / 6
    found = group_advantages(
        torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]), torch.ones(2), tolerance=0.0, spread="batch"
    )
    std = (10 / 6) ** 0.5 + 1e-4
    assert found.flatten().tolist() == pytest.approx([-1 / std, 0, 1 / std, -2 / std, 0, 2 / std])


def test_groups_of_zero_variance_are_told() -> None:
    rewards = torch.tensor([[1.0, 1.0], [1.0, 1.5]])
    assert zero_variance(rewards, tolerance=0.1).tolist() == [True, False]


def test_advantages_without_a_spread_are_the_centred_rewards() -> None:
    found = group_advantages(torch.tensor([[1.0, 3.0]]), torch.tensor([2.0]), tolerance=0.0, spread="none")
    assert found.tolist() == [[-2.0, 2.0]]


@given(groups, st.sampled_from(["group", "batch", "none"]))
def test_advantages_follow_their_groups_when_these_change_places(rewards: list[list[float]], spread: Spread) -> None:
    values, alpha = torch.tensor(rewards, dtype=torch.float64), torch.arange(1.0, len(rewards) + 1).double()
    found = group_advantages(values, alpha, tolerance=1e-4, spread=spread)
    turned = group_advantages(values.flip(0), alpha.flip(0), tolerance=1e-4, spread=spread)
    torch.testing.assert_close(turned.flip(0), found)
