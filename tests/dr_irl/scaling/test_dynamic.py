"""Properties of the factors of a whole batch."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.categories import BENIGN
from dr_irl.scaling.dynamic import Factors, scale_factors
from dr_irl.scaling.options import ScalingRule

PUBLISHED = ScalingRule(
    combine="product",
    kappa=1.0,
    reference="batch",
    ema_decay=0.9,
    tau="mad",
    sum_weight=0.5,
    clip=None,
    rescale=False,
)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def factors(rule: ScalingRule, rows: list[dict[str, Any]], past: dict[str, float] | None = None) -> Factors:
    own, category = torch.tensor([r["own"] for r in rows]), torch.tensor([r["mean"] for r in rows])
    gaps = torch.tensor([r["gaps"] for r in rows])
    return scale_factors(rule, [r["category"] for r in rows], (own, category), gaps, past or {})


# Quarters add up exactly in any order, so a permutation cannot move a gap across the tolerance by rounding.
quarters = st.integers(-12, 12).map(lambda n: n / 4)
a_row = st.fixed_dictionaries(
    {
        "category": st.sampled_from(["insult", "physical_harm", BENIGN]),
        "own": st.floats(0, 1),
        "mean": st.floats(0, 1),
        "gaps": st.lists(quarters, min_size=3, max_size=3),
    }
)
batches = st.lists(a_row, min_size=1, max_size=7)
rules = st.builds(
    ScalingRule,
    combine=st.sampled_from(["product", "sum", "data", "model", "none"]),
    reference=st.sampled_from(["batch", "ema"]),
    tau=st.sampled_from(["mad", 0.5]),
    clip=st.sampled_from([None, (0.8, 1.25)]),
    rescale=st.booleans(),
)
PAST = {"insult": 0.5}


@given(rules, batches)
def test_factors_are_positive(rule: ScalingRule, rows: list[dict[str, Any]]) -> None:
    assert bool((factors(rule, rows, PAST).alpha > 0).all())


@given(a_row, st.integers(1, 5))
def test_equal_rows_give_one(row: dict[str, Any], count: int) -> None:
    found = factors(PUBLISHED, [row | {"mean": row["own"], "gaps": [row["gaps"][0]] * 3}] * count)
    assert found.alpha.tolist() == pytest.approx([1.0] * count)


@given(a_row, st.integers(1, 5))
def test_rescaled_equal_rows_give_one_whatever_they_are(row: dict[str, Any], count: int) -> None:
    found = factors(PUBLISHED.model_copy(update={"rescale": True}), [row] * count)
    assert found.alpha.tolist() == pytest.approx([1.0] * count)


@given(rules, batches, st.randoms(use_true_random=False))
def test_permuting_the_prompts_permutes_the_factors(rule: ScalingRule, rows: list[dict[str, Any]], random: Any) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)
    expected = factors(rule, rows, PAST).alpha[order]
    torch.testing.assert_close(factors(rule, [rows[i] for i in order], PAST).alpha, expected)


@given(st.lists(a_row, min_size=1, max_size=7))
def test_published_product_stays_in_its_range(rows: list[dict[str, Any]]) -> None:
    """With d and mean gaps in [0, 1] each factor lies in [s(0)/s(1), s(1)/s(0)] = [0.684, 1.462]."""
    rows = [row | {"gaps": [abs(gap) / 3 for gap in row["gaps"]]} for row in rows]
    alpha = factors(PUBLISHED, rows).alpha
    bound = (sigmoid(1) / sigmoid(0)) ** 2
    assert bound == pytest.approx(2.138, abs=1e-3) and 1 / bound == pytest.approx(0.468, abs=1e-3)
    assert 1 / bound - 1e-5 <= alpha.min().item() and alpha.max().item() <= bound + 1e-5


@given(batches)
def test_rescaled_factors_of_harmful_prompts_have_mean_one(rows: list[dict[str, Any]]) -> None:
    rows = [*rows, rows[0] | {"category": "insult"}]
    alpha = factors(PUBLISHED.model_copy(update={"rescale": True}), rows).alpha
    harmful = [i for i, row in enumerate(rows) if row["category"] != BENIGN]
    assert alpha[harmful].mean().item() == pytest.approx(1.0, abs=1e-5)


@given(rules, batches)
def test_benign_prompts_always_have_one(rule: ScalingRule, rows: list[dict[str, Any]]) -> None:
    found = factors(rule, rows, PAST)
    benign = [i for i, row in enumerate(rows) if row["category"] == BENIGN]
    assert {*found.data[benign].tolist(), *found.model[benign].tolist(), *found.alpha[benign].tolist()} <= {1.0}


def test_product_of_both_factors_by_hand() -> None:
    # gaps 0 1 2 5 with tau 4: kept mean 1 of mean 2
    row = {"category": "insult", "own": 0.5, "mean": 0.25, "gaps": [0.0, 1.0, 2.0, 5.0]}
    found = factors(PUBLISHED.model_copy(update={"tau": 4.0}), [row])
    assert found.alpha.item() == pytest.approx(sigmoid(0.5) / sigmoid(0.25) * sigmoid(1) / sigmoid(2))


def test_each_category_has_its_own_mean_gap() -> None:
    rows = [
        {"category": "insult", "own": 0.5, "mean": 0.5, "gaps": [1.0, 3.0]},
        {"category": "physical_harm", "own": 0.5, "mean": 0.5, "gaps": [-1.0, 0.0]},
    ]
    assert factors(PUBLISHED, rows).mean_gaps == {"insult": 2.0, "physical_harm": -0.5}


def test_moving_average_is_used_before_it_is_updated() -> None:
    row = {"category": "insult", "own": 0.5, "mean": 0.5, "gaps": [1.0, 1.0]}
    found = factors(PUBLISHED.model_copy(update=dict(reference="ema", tau=1.0)), [row], {"insult": 0.0})
    assert (found.model.item(), found.mean_gaps["insult"]) == pytest.approx((sigmoid(1) / sigmoid(0), 0.1))


def test_batch_reference_ignores_the_past() -> None:
    row = {"category": "insult", "own": 0.5, "mean": 0.5, "gaps": [1.0, 1.0]}
    assert factors(PUBLISHED.model_copy(update={"tau": 1.0}), [row], {"insult": 0.0}).model.item() == 1.0
