import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.categories import ALL_LABELS
from dr_irl.records import ScalingRecord, StepRecord
from dr_irl.report.plots import (
    balance_bars,
    category_colour,
    category_label,
    model_colour,
    moving_mean,
    refusal_bars,
    scaling_curves,
    series_by_category,
    step_curves,
)
from dr_irl.results.statistics import rate
from dr_irl.results.summaries import ModelSummary

VALUES = st.lists(st.floats(-1e6, 1e6), max_size=80)


def summary(name: str, hits: int) -> ModelSummary:
    return ModelSummary(name, {"insult": rate([True] * hits + [False] * (4 - hits))}, {}, 1.0, 1.0, 1.0, 1.0)


def test_plot_is_well_formed():
    svg = balance_bars({"<a> & $b$": 2}, {"<a> & $b$": 1})
    assert "<a> & $b$" in "".join(ElementTree.fromstring(svg).itertext())


def test_plot_uses_no_fixed_colour():
    svg = step_curves("reward", {"insult": [(0, 1.0), (1, 2.0)], "all": [(0, 1.0), (1, 2.0)]}, share=False)
    assert re.findall(r"#[0-9a-f]{6}\b", svg) == []


def test_plot_carries_no_date():
    assert "<metadata" not in balance_bars({"insult": 1}, {})


def test_plot_brings_no_style_for_the_rest_of_the_page():
    assert "<style" not in balance_bars({"insult": 1}, {})


def test_alternative_text_cannot_leave_its_attribute():
    svg = step_curves('x" onload="alert(1)', {"all": [(0, 1.0)]}, share=False)
    assert "onload" not in ElementTree.fromstring(svg).attrib


def test_every_model_has_its_colour_in_the_bars():
    svg = refusal_bars([summary("a", 1), summary("b", 2), summary("c", 3)])
    assert all(f"fill: var(--{colour})" in svg for colour in ("m1", "m2", "m3"))


def test_scored_rates_have_whiskers():
    def whiskers(svg: str) -> int:
        return svg.count("stroke: var(--ink)")

    assert whiskers(refusal_bars([summary("a", 1), summary("b", 2)])) == 2


def test_unscored_rates_have_no_whisker():
    nothing = ModelSummary("a", {"insult": rate([None])}, {}, 1.0, 1.0, 1.0, 1.0)
    assert "stroke: var(--ink)" not in refusal_bars([nothing])


def test_single_point_gets_a_mark():
    assert "<use" in step_curves("kl", {"all": [(3, 0.5)]}, share=False).split("axes_1")[1].split("axis_2")[1]


def test_scaling_of_one_category_draws_three_bands():
    rows = [ScalingRecord(s, "p", "insult", 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0) for s in (0, 1)]
    svg = scaling_curves(rows, "insult", (0.5, 1.5))
    assert [f"fill: var(--{factor})" in svg for factor in ("data", "model", "alpha")] == [True, True, True]


def test_series_keep_the_steps_in_order_and_drop_nan():
    steps = [StepRecord(2, "kl", "all", 3.0), StepRecord(0, "kl", "all", 1.0), StepRecord(1, "kl", "all", math.nan)]
    assert series_by_category(steps, "kl") == {"all": [(0, 1.0), (2, 3.0)]}


def test_series_without_a_finite_value_are_left_out():
    assert series_by_category([StepRecord(0, "kl", "all", math.inf)], "kl") == {}


def test_series_of_all_categories_are_drawn_last_on_top():
    steps = [StepRecord(0, "kl", category, 1.0) for category in ("all", "benign", "insult")]
    assert list(series_by_category(steps, "kl")) == ["insult", "benign", "all"]


def test_moving_mean_averages_over_its_window():
    # 24 values reach one to each side; the ends have one neighbour only
    means = moving_mean([0.0, 3.0, 3.0, *[0.0] * 21])
    assert means[:5] == [1.5, 2.0, 2.0, 1.0, 0.0]


def test_moving_mean_of_few_values_changes_nothing():
    assert moving_mean([1.0, 5.0, 2.0]) == [1.0, 5.0, 2.0]


@given(VALUES)
def test_moving_mean_stays_between_least_and_greatest(values):
    means = moving_mean(values)
    assert len(means) == len(values)
    assert all(min(values) - 1e-6 <= mean <= max(values) + 1e-6 for mean in means)


def test_every_category_has_a_colour_of_its_own():
    assert len({category_colour(category) for category in (*ALL_LABELS, "all")}) == len(ALL_LABELS) + 1


@pytest.mark.parametrize(
    ("count", "colours"),
    [(1, ["m1"]), (2, ["m1", "m2"]), (3, ["m1", "m3", "m2"]), (6, ["m1", "m3", "m4", "m5", "m3", "m2"])],
)
def test_first_and_last_model_keep_their_colours(count, colours):
    assert [model_colour(index, count) for index in range(count)] == colours


def test_category_labels_are_words():
    assert category_label("privacy_property") == "Privacy property"
