"""Model responsiveness on gaps small enough to check by hand."""

import math
from typing import Literal

import pytest
import torch

from dr_irl.scaling.responsiveness import gap_tolerance, responsiveness, reward_gaps, rows_of, update_mean_gaps

GAPS = torch.tensor([[0.0, 1.0], [2.0, 5.0]])  # mean 2; squared distances 4, 1, 0, 9


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_gap_is_demonstration_minus_completion() -> None:
    found = reward_gaps(torch.tensor([1.0, 2.0]), torch.tensor([[0.0, 3.0], [2.0, 1.0]]))
    assert found.tolist() == [[1.0, -2.0], [0.0, 1.0]]


def test_gaps_beyond_tau_are_left_out() -> None:
    assert responsiveness(GAPS, reference=None, tau=4.0).kept.tolist() == [[True, True], [True, False]]


def test_batch_reference_compares_with_the_mean_of_all_gaps() -> None:
    assert responsiveness(GAPS, reference=None, tau=4.0).factor == pytest.approx(sigmoid(1) / sigmoid(2))


def test_moving_average_reference_compares_with_the_past() -> None:
    assert responsiveness(GAPS, reference=0.0, tau=4.0).factor == pytest.approx(sigmoid(1) / sigmoid(0))


def test_mean_gap_counts_the_gaps_that_were_left_out() -> None:
    assert responsiveness(GAPS, reference=None, tau=4.0).mean_gap == 2.0


def test_nothing_left_out_gives_one() -> None:
    assert responsiveness(GAPS, reference=None, tau=9.0).factor == 1.0


def test_mad_is_the_robust_three_sigma_rule() -> None:
    # median 2, absolute deviations 2 1 0 1 98, their median 1
    assert gap_tolerance(torch.tensor([[0.0, 1.0, 2.0, 3.0, 100.0]]), "mad") == pytest.approx((3 * 1.4826) ** 2)


def test_number_for_tau_is_used_as_it_is() -> None:
    assert gap_tolerance(GAPS, 0.5) == 0.5


def test_empty_kept_set_gives_one() -> None:
    # the mean, 21.2, is farther than tau from every gap
    found = responsiveness(torch.tensor([[0.0, 1.0, 2.0, 3.0, 100.0]]), reference=5.0, tau="mad")
    assert (found.factor, found.kept.any().item()) == (1.0, False)


def test_outlier_that_moves_the_mean_by_less_than_tau_is_left_out_alone() -> None:
    # median 2, median deviation 1, sqrt(tau) 4.45; mean 4.4: distances 4.4 3.4 2.4 1.4 11.6
    found = responsiveness(torch.tensor([[0.0, 1.0, 2.0, 3.0, 16.0]]), reference=None, tau="mad")
    assert found.kept.tolist() == [[True, True, True, True, False]]


@pytest.mark.parametrize("tau", ["mad", 0.0])
def test_identical_gaps_are_all_kept(tau: float | Literal["mad"]) -> None:
    assert responsiveness(torch.full((2, 2), 0.5), reference=None, tau=tau).kept.all().item()


def test_identical_gaps_are_compared_with_the_past() -> None:
    found = responsiveness(torch.full((2, 2), 0.5), reference=0.25, tau="mad")
    assert found.factor == pytest.approx(sigmoid(0.5) / sigmoid(0.25))


@pytest.mark.parametrize("gap", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("tau", ["mad", 4.0])
def test_gap_that_is_not_finite_leaves_the_factor_at_one(gap: float, tau: float | Literal["mad"]) -> None:
    """GRPO refuses such rewards before this; were one to come through, no factor would be NaN."""
    assert responsiveness(torch.tensor([[0.0, 1.0, gap]]), reference=0.5, tau=tau).factor == 1.0


def test_new_category_starts_at_its_first_value() -> None:
    assert update_mean_gaps({}, {"insult": 3.0}, decay=0.9) == {"insult": 3.0}


def test_known_category_moves_towards_the_new_value() -> None:
    assert update_mean_gaps({"insult": 1.0}, {"insult": 2.0}, decay=0.9) == pytest.approx({"insult": 1.1})


def test_category_missing_from_the_batch_keeps_its_value() -> None:
    assert update_mean_gaps({"insult": 1.0}, {}, decay=0.9) == {"insult": 1.0}


def test_past_is_not_modified() -> None:
    past = {"insult": 1.0}
    update_mean_gaps(past, {"insult": 2.0}, decay=0.5)
    assert past == {"insult": 1.0}


def test_rows_of_a_category() -> None:
    assert rows_of(["a", "b", "a"], "a") == [0, 2]
