"""Resampling from a pool against its closed form."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.reward.losses import ml_irl_loss
from dr_irl.reward.options import LossOptions
from dr_irl.reward.resample import resample

BETA = 0.7
POOL = torch.tensor([[0.3, -1.2, 2.0, 0.0]], dtype=torch.float64)
MANY = 200_000


def uniform(draws: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, draws, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_draws_follow_the_soft_optimal_policy() -> None:
    picks, _ = resample(POOL, uniform(MANY), beta=BETA)
    shares = torch.bincount(picks[0], minlength=4) / MANY
    torch.testing.assert_close(shares.double(), torch.softmax(POOL[0] / BETA, dim=0), atol=4e-3, rtol=0)


def test_weights_give_back_the_partition_function_of_the_pool_under_any_reward() -> None:
    picks, log_weights = resample(POOL, uniform(MANY), beta=BETA)
    later = torch.tensor([[1.0, 0.5, -0.3, 2.0]], dtype=torch.float64)
    estimate = (log_weights + later.gather(1, picks) / BETA).exp().mean()
    assert estimate.item() == pytest.approx((later / BETA).exp().mean().item(), rel=0.02)


def test_under_the_reward_that_tilted_every_term_is_the_mean_of_the_pool() -> None:
    picks, log_weights = resample(POOL, uniform(5), beta=BETA)
    terms = log_weights + POOL.gather(1, picks) / BETA
    torch.testing.assert_close(terms, (POOL / BETA).exp().mean().log().expand(1, 5))


def test_gradient_at_the_tilting_reward_is_that_of_the_soft_optimal_policy() -> None:
    """Maximum-entropy IRL: demonstrations up, completions of the soft-optimal policy down."""
    reward = POOL.clone().requires_grad_()
    picks, log_weights = resample(POOL, uniform(MANY), beta=BETA)
    demonstration = torch.zeros(1, dtype=torch.float64)
    ml_irl_loss(demonstration, reward.gather(1, picks), log_weights, LossOptions(beta=BETA)).backward()
    torch.testing.assert_close(
        reward.grad[0] / reward.grad.sum(), torch.softmax(POOL[0] / BETA, dim=0), atol=4e-3, rtol=0
    )


def test_equal_rewards_are_drawn_evenly_with_weight_one() -> None:
    picks, log_weights = resample(torch.zeros(1, 4), torch.tensor([[0.0, 0.3, 0.6, 0.99]]), beta=1.0)
    assert picks.tolist() == [[0, 1, 2, 3]]
    assert log_weights.tolist() == [[0.0] * 4]


def test_huge_rewards_do_not_overflow() -> None:
    picks, log_weights = resample(torch.tensor([[1e4, -1e4]]), torch.tensor([[0.5]]), beta=1.0)
    assert picks.tolist() == [[0]]
    assert log_weights.item() == pytest.approx(-math.log(2))


@given(last=st.floats(0, 1, exclude_max=True), rewards=st.lists(st.floats(-50, 50), min_size=1, max_size=6))
def test_every_number_draws_a_completion_of_the_pool(last: float, rewards: list[float]) -> None:
    picks, log_weights = resample(torch.tensor([rewards]), torch.tensor([[last]]), beta=1.0)
    assert 0 <= picks.item() < len(rewards)
    assert math.isfinite(log_weights.item())


def test_each_prompt_draws_from_its_own_pool() -> None:
    picks, _ = resample(torch.tensor([[9.0, -9.0], [-9.0, 9.0]]), torch.full((2, 3), 0.5), beta=0.1)
    assert picks.tolist() == [[0, 0, 0], [1, 1, 1]]
