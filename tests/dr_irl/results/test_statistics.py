import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from dr_irl.results.statistics import mcnemar, mean_interval, paired_difference, rate, wilson_interval

FLAGS = st.lists(st.tuples(*[st.sampled_from([True, False, None])] * 2), max_size=60)


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        # Newcombe (1998), Statistics in Medicine 17, table I: method 3, the score method
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_the_published_values(hits, count, low, high):
    assert wilson_interval(hits, count) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_agrees_with_scipy(pair):
    hits, count = pair
    expected = binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert wilson_interval(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_interval_of_nothing_says_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_interval_ends_exactly_at_zero_and_one():
    assert (wilson_interval(0, 7)[0], wilson_interval(7, 7)[1]) == (0.0, 1.0)


def test_more_hits_than_items_are_refused():
    with pytest.raises(ValueError, match="hits = 3 of count = 2"):
        wilson_interval(3, 2)


def test_unscored_flags_enter_no_share():
    result = rate([True, None, False, True, None])
    assert (result.hits, result.count, result.unscored) == (2, 3, 2)


def test_rate_carries_the_wilson_interval():
    result = rate([True, False, False])
    assert (result.low, result.high) == wilson_interval(1, 3)


def test_rate_of_nothing_is_nan():
    assert math.isnan(rate([None]).value)


def test_mean_interval_has_the_published_values():
    # Student (1908), Biometrika 6: hours of sleep gained by ten patients; the interval is that of R, t.test on `sleep`
    gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    result = mean_interval(gained)
    assert (result.value, result.low, result.high) == pytest.approx((1.58, 0.7001142, 2.4598858), abs=5e-8)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40).filter(lambda values: max(values) - min(values) > 1e-3))
def test_mean_interval_agrees_with_scipy(values):
    result, expected = mean_interval(values), ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_mean_interval_carries_its_count():
    assert mean_interval([1.0, 2.0, 4.0]).count == 3


def test_equal_values_have_an_interval_of_no_width():
    result = mean_interval([2.5] * 4)
    assert (result.value, result.low, result.high) == (2.5, 2.5, 2.5)


def test_one_value_bounds_nothing():
    result = mean_interval([2.5])
    assert (result.value, result.low, result.high, result.count) == (2.5, -math.inf, math.inf, 1)


def test_mean_of_nothing_is_nan_and_unbounded():
    result = mean_interval([])
    assert math.isnan(result.value)
    assert (result.low, result.high, result.count) == (-math.inf, math.inf, 0)


def test_gained_are_those_that_became_true():
    # three became true, one became false, one agrees, one has an unscored side
    before = [False, False, False, True, True, None]
    after = [True, True, True, False, True, True]
    assert mcnemar(before, after)[:2] == (3, 1)


def test_p_value_is_the_two_sided_binomial_tail():
    # 5 gained, 0 lost: 2 * (1/2)^5
    assert mcnemar([False] * 5, [True] * 5)[2] == pytest.approx(0.0625)


@given(FLAGS)
def test_mcnemar_agrees_with_scipy(pairs):
    gained, lost, p_value = mcnemar([old for old, _ in pairs], [new for _, new in pairs])
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert p_value == pytest.approx(expected, abs=1e-12)


@given(FLAGS)
def test_swapping_the_models_swaps_gained_and_lost(pairs):
    before, after = [old for old, _ in pairs], [new for _, new in pairs]
    gained, lost, p_value = mcnemar(before, after)
    assert mcnemar(after, before) == (lost, gained, p_value)


def test_thousands_of_changes_give_a_finite_p_value():
    assert 0.0 <= mcnemar([False] * 5000, [True] * 5000)[2] < 1e-300


def test_sides_of_different_length_are_refused():
    with pytest.raises(ValueError, match="shorter|longer"):
        mcnemar([True], [True, False])


def test_a_difference_is_averaged_over_runs_and_its_interval_is_over_prompts():
    mine, other = [[True, True, False], [True, False, False]], [[False, True, False], [False, True, None]]
    # per prompt: (1 + 1) / 2, (0 - 1) / 2, 0
    assert paired_difference(mine, other) == mean_interval([1.0, -0.5, 0.0])


@given(st.lists(st.lists(st.sampled_from([True, False, None]), min_size=4, max_size=4), min_size=1, max_size=3))
def test_no_model_differs_from_itself(runs):
    assert paired_difference(runs, runs).value == 0.0


def test_a_seed_that_repeats_another_narrows_nothing():
    mine, other = [[True, False, True]], [[False, False, True]]
    assert paired_difference(mine * 5, other * 5) == paired_difference(mine, other)


def test_runs_that_one_side_lacks_are_refused():
    with pytest.raises(ValueError, match="longer"):
        paired_difference([[True]], [[True], [True]])
