"""GRPO's loss terms by hand, by finite differences and against exact divergences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.policy.objective import LossType, clipped_surrogate, kl_estimate, sequence_means, token_weights

logits = st.lists(st.floats(-4, 4), min_size=4, max_size=4)


def surrogate(ratio: float, advantage: float) -> float:
    new = torch.tensor([[math.log(ratio)]], dtype=torch.float64)
    advantages = torch.tensor([advantage], dtype=torch.float64)
    return clipped_surrogate(new, torch.zeros_like(new), advantages, clip=0.2).item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 3.0, 3.0),  # nothing changed yet
        (1.5, 1.0, 1.2),  # no reward for going further up
        (1.5, -1.0, -1.5),  # but full blame for it
        (0.5, -1.0, -0.8),  # no reward for going further down
        (0.5, 1.0, 0.5),  # but full blame for it
    ],
)
def test_clipped_surrogate_by_hand(ratio: float, advantage: float, expected: float) -> None:
    assert surrogate(ratio, advantage) == pytest.approx(expected)


def test_surrogate_gradient_agrees_with_finite_differences() -> None:
    # ratios 1.05, 1.4 (clipped for the first row), 0.9, 0.6 (clipped for the second); none near a kink
    new = torch.tensor([[1.05, 1.4], [0.9, 0.6]], dtype=torch.float64).log().requires_grad_()
    old, advantages = torch.zeros(2, 2, dtype=torch.float64), torch.tensor([1.5, -0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: clipped_surrogate(x, old, advantages, clip=0.2), (new,))


def test_first_gradient_is_that_of_the_policy_gradient() -> None:
    new = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    clipped_surrogate(new, new.detach(), torch.tensor([3.0]), clip=0.2).sum().backward()
    assert new.grad.tolist() == [[3.0, 3.0]]


def test_kl_by_hand() -> None:
    # pi_ref twice as likely: 2 - log 2 - 1
    found = kl_estimate(torch.tensor([[math.log(0.25)]]), torch.tensor([[math.log(0.5)]]))
    assert found.item() == pytest.approx(1 - math.log(2))


def test_kl_gradient_agrees_with_finite_differences() -> None:
    current = torch.tensor([[-1.0, -0.3]], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([[-0.5, -0.9]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: kl_estimate(x, reference), (current,))


@given(logits, logits)
def test_kl_estimate_is_unbiased(left: list[float], right: list[float]) -> None:
    current = torch.tensor([left], dtype=torch.float64).log_softmax(dim=1)
    reference = torch.tensor([right], dtype=torch.float64).log_softmax(dim=1)
    exact = (current.exp() * (current - reference)).sum()
    torch.testing.assert_close((current.exp() * kl_estimate(current, reference)).sum(), exact)


@given(st.floats(-5, 0), st.floats(-5, 0))
def test_kl_is_positive_where_the_two_differ(current: float, reference: float) -> None:
    found = kl_estimate(
        torch.tensor([[current]], dtype=torch.float64), torch.tensor([[reference]], dtype=torch.float64)
    )
    assert found.item() > 0 or abs(current - reference) < 1e-6


def test_kl_is_zero_where_the_two_are_equal() -> None:
    same = torch.tensor([[-0.1, -3.0]])
    assert kl_estimate(same, same).tolist() == [[0.0, 0.0]]


def test_sequence_means_leave_padding_out() -> None:
    counts = torch.tensor([[True, True, False], [True, False, False]])
    found = sequence_means(torch.tensor([[1.0, 3.0, 99.0], [5.0, 99.0, 99.0]]), counts)
    assert found.tolist() == [2.0, 5.0]


def test_sequence_without_tokens_has_mean_zero() -> None:
    assert sequence_means(torch.tensor([[7.0]]), torch.tensor([[False]])).tolist() == [0.0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.25, 1.0, 1.25),  # room upwards to 1.3
        (1.5, 1.0, 1.3),
        (0.5, -1.0, -0.8),  # downwards the bound stays
    ],
)
def test_upper_bound_of_the_ratio_can_be_another(ratio: float, advantage: float, expected: float) -> None:
    new = torch.tensor([[math.log(ratio)]])
    found = clipped_surrogate(new, torch.zeros_like(new), torch.tensor([advantage]), clip=0.2, clip_high=0.3)
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("grpo", [1 / (3 * 2), 1 / (3 * 8), 1 / 3]),  # each of 3 completions weighs a third
        ("dr_grpo", [1 / (3 * 10)] * 3),  # whatever their length, out of 10
        ("dapo", [1 / 10] * 3),  # 2 + 8 + 0 tokens
    ],
)
def test_token_weights_by_hand(loss_type: LossType, expected: list[float]) -> None:
    found = token_weights(torch.tensor([2, 8, 0]), loss_type=loss_type, max_tokens=10)
    assert found.tolist() == pytest.approx(expected)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.sampled_from(["grpo", "dapo"]))
def test_weights_of_all_tokens_sum_to_one(lengths: list[int], loss_type: LossType) -> None:
    counts = torch.tensor(lengths)
    found = token_weights(counts, loss_type=loss_type, max_tokens=20)
    assert float((found * counts).sum()) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
def test_completions_of_equal_length_weigh_the_same_in_every_loss(loss_type: LossType) -> None:
    found = token_weights(torch.tensor([5, 5]), loss_type=loss_type, max_tokens=5)
    assert found.tolist() == pytest.approx([0.1, 0.1])


def test_batch_without_a_token_has_finite_weights() -> None:
    assert token_weights(torch.tensor([0, 0]), loss_type="dapo", max_tokens=4).isfinite().all()
