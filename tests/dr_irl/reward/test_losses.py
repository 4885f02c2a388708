"""The reward losses against logistic regression, maximum-entropy IRL and a world with a known reward."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from dr_irl.reward.losses import minimax_loss, ml_irl_loss, pairwise_loss
from dr_irl.reward.options import LossOptions

DEMONSTRATION = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
COMPLETIONS = torch.tensor([[0.1, 1.0], [-2.0, 0.5], [2.5, 1.5]], dtype=torch.float64)
BETA = 0.7
OPTIONS = LossOptions(beta=BETA)
rewards = st.floats(-20, 20)


def logistic(gap: float) -> float:
    return math.log(1 + math.exp(-gap))


def test_one_completion_gives_the_logistic_loss() -> None:
    expected = sum(logistic((y - o) / BETA) for y, o in zip([0.3, -1.2, 2.0], [0.1, -2.0, 2.5], strict=True)) / 3
    assert ml_irl_loss(DEMONSTRATION, COMPLETIONS[:, :1], None, OPTIONS).item() == pytest.approx(expected, abs=1e-6)


def test_equal_rewards_give_the_logarithm_of_the_number_of_answers() -> None:
    assert ml_irl_loss(torch.zeros(2), torch.zeros(2, 3), None, LossOptions()).item() == pytest.approx(math.log(4))


def test_gradient_is_that_of_maximum_entropy_irl() -> None:
    demonstration, completions = DEMONSTRATION.clone().requires_grad_(), COMPLETIONS.clone().requires_grad_()
    ml_irl_loss(demonstration, completions, None, OPTIONS).backward()
    policy = torch.softmax(torch.cat([DEMONSTRATION[:, None], COMPLETIONS], dim=1) / BETA, dim=1)
    indicator = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    expected = (policy - indicator) / (BETA * 3)
    torch.testing.assert_close(torch.cat([demonstration.grad[:, None], completions.grad], dim=1), expected)


def test_gradient_agrees_with_finite_differences() -> None:
    inputs = (DEMONSTRATION.clone().requires_grad_(), COMPLETIONS.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda y, o: ml_irl_loss(y, o, None, OPTIONS), inputs)


def test_weight_of_two_counts_a_completion_twice() -> None:
    weights = torch.tensor([[math.log(2), 0.0]] * 3, dtype=torch.float64)
    weighted = ml_irl_loss(DEMONSTRATION, COMPLETIONS, weights, OPTIONS)
    listed_twice = ml_irl_loss(DEMONSTRATION, COMPLETIONS[:, [0, 0, 1]], None, OPTIONS)
    assert weighted.item() == pytest.approx(listed_twice.item())


def test_weight_of_zero_leaves_a_completion_out() -> None:
    weights = torch.tensor([[0.0, -math.inf]] * 3, dtype=torch.float64)
    weighted = ml_irl_loss(DEMONSTRATION, COMPLETIONS, weights, OPTIONS)
    assert weighted.item() == pytest.approx(ml_irl_loss(DEMONSTRATION, COMPLETIONS[:, :1], None, OPTIONS).item())


@given(shift=rewards)
def test_ml_irl_ignores_a_constant_added_to_every_reward(shift: float) -> None:
    moved = ml_irl_loss(DEMONSTRATION + shift, COMPLETIONS + shift, None, OPTIONS)
    assert moved.item() == pytest.approx(ml_irl_loss(DEMONSTRATION, COMPLETIONS, None, OPTIONS).item())


@given(shift=rewards)
def test_pairwise_ignores_a_constant_added_to_every_reward(shift: float) -> None:
    moved = pairwise_loss(DEMONSTRATION + shift, COMPLETIONS + shift, None, OPTIONS)
    assert moved.item() == pytest.approx(pairwise_loss(DEMONSTRATION, COMPLETIONS, None, OPTIONS).item())


def test_pairwise_is_the_mean_logistic_loss_of_all_pairs() -> None:
    gaps = [(y - o) / BETA for y, row in zip(DEMONSTRATION.tolist(), COMPLETIONS.tolist(), strict=True) for o in row]
    expected = sum(map(logistic, gaps)) / 6
    assert pairwise_loss(DEMONSTRATION, COMPLETIONS, None, OPTIONS).item() == pytest.approx(expected)


def test_huge_rewards_do_not_overflow() -> None:
    loss = ml_irl_loss(torch.tensor([-1e4]), torch.tensor([[1e4]]), None, LossOptions())
    assert loss.item() == pytest.approx(2e4)


def test_minimax_by_hand() -> None:
    # mean o = 2, mean y = 3, mean y^2 = 9, mean o^2 = (1 + 9) / 2 = 5
    loss = minimax_loss(torch.tensor([3.0]), torch.tensor([[1.0, 3.0]]), None, LossOptions(minimax_penalty=0.1))
    assert loss.item() == pytest.approx(2 - 3 + 0.1 * 14)


@given(
    demonstration=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2),
    completion=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2),
    penalty=st.floats(0.01, 10),
)
def test_minimax_is_bounded_below(demonstration: list[float], completion: list[float], penalty: float) -> None:
    # -R + penalty R^2 is least at R = 1 / (2 penalty), where it is -1 / (4 penalty); there are two such terms.
    y, o = torch.tensor(demonstration, dtype=torch.float64), torch.tensor(completion, dtype=torch.float64)[:, None]
    assert minimax_loss(y, o, None, LossOptions(minimax_penalty=penalty)).item() >= -1 / (2 * penalty) - 1e-6


def test_planted_reward_is_recovered_from_samples() -> None:
    """Tabular rewards over eight answers; demonstrations come from pi_ref tilted by the planted reward."""
    generator = torch.Generator().manual_seed(0)
    planted = torch.tensor([1.5, -2.0, 0.0, 2.0, -1.0, 0.7, -0.5, 1.0])
    reference = torch.tensor([0.05, 0.3, 0.1, 0.05, 0.2, 0.1, 0.15, 0.05])
    expert = reference * torch.exp(planted / BETA)
    demonstrated = torch.multinomial(expert, 4000, replacement=True, generator=generator)
    completed = torch.multinomial(reference, 4000 * 6, replacement=True, generator=generator).view(4000, 6)
    fitted = torch.zeros(8, requires_grad=True)
    optimiser = torch.optim.Adam([fitted], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        ml_irl_loss(fitted[demonstrated], fitted[completed], None, OPTIONS).backward()
        optimiser.step()
    assert spearmanr(planted, fitted.detach()).statistic > 0.95
