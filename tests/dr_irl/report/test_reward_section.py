import math
import pkgutil
import re
from xml.etree import ElementTree

import pytest

from dr_irl.categories import BENIGN, HARM_CATEGORIES, SINGLE
from dr_irl.report.reward_section import (
    formulas,
    learning_curves,
    learning_panels,
    loss_curves,
    present_rewards,
    same_pairs,
)
from dr_irl.report.write import render_report
from dr_irl.results.statistics import mean_interval, rate
from dr_irl.reward.hard_negatives import KINDS

OBJECTIVES = ("ml_irl", "pairwise", "minimax")


def words(text: str) -> str:
    return " ".join(text.split())


def section(page) -> str:
    """The section's visible text."""
    text = words(page.open_text)
    return text[text.index("Accuracy: how often") : text.index("Scaling factors")]


def test_accuracy_is_shown_with_interval_and_count(page, reward):
    some = rate([True] * 45 + [False] * 3)
    assert "93.8 % 83.2–97.9 % 45 of 48" in section(page(rewards=[reward("insult", unseen_accuracy=some)]))


def test_mean_gap_is_shown_with_interval_and_count(page, reward):
    # t = 12.706 for two values whose standard error is 0.5
    gap = mean_interval([1.0, 2.0])
    assert "1.50 −4.85 to 7.85 2 pairs" in section(page(rewards=[reward("insult", unseen_gap=gap)]))


def test_mean_gap_of_one_pair_has_no_interval(page, reward):
    gap = mean_interval([1.25])
    assert "1.25 no interval 1 pair" in section(page(rewards=[reward("insult", unseen_gap=gap)]))


def test_mean_gap_of_no_pair_is_not_measured(page, reward):
    measured = section(page(rewards=[reward("insult")])).count("not measured")
    empty = mean_interval([])
    seen = section(page(rewards=[reward("insult", validation_gap=empty, unseen_gap=empty)]))
    assert seen.count("not measured") == measured + 2


def test_every_kind_of_hard_negative_has_a_column(page, reward):
    seen = section(page(rewards=[reward("insult")]))
    assert [seen.count(kind[:1].upper() + kind[1:]) for kind in KINDS] == [1] * len(KINDS)


def test_union_of_the_kinds_is_no_kind(reward):
    assert present_rewards([reward("insult")], {}).hard_kinds == list(KINDS)


def test_benign_model_is_in_no_row_of_hard_negatives(page, reward):
    seen = section(page(rewards=[reward("insult"), reward(BENIGN)]))
    table = seen[seen.index("Accuracy on hard negatives") : seen.index("Answers made to look good")]
    assert ("Insult" in table, "Benign" in table) == (True, False)


def test_run_without_hard_negatives_says_so(page, reward):
    assert "No hard negative was scored" in section(page(rewards=[reward(BENIGN)]))


def test_single_model_stands_beside_the_others_on_completions_and_on_hard_negatives(page, reward):
    # two column heads and the explanation below the first table
    assert section(page(rewards=[reward("insult")])).count("One model for all") == 3


def test_single_columns_vanish_where_no_single_model_was_trained(page, reward):
    seen = page(rewards=[reward("insult", single_unseen=None, single_hard=None)])
    assert "One model for all" not in seen.open_text


@pytest.mark.parametrize("single", [rate([True]), None])
@pytest.mark.parametrize("name", ["Accuracy and gaps", "Hard negatives"])
def test_rows_are_as_wide_as_their_head(complete, reward, name, single):
    models = [reward("insult", single_unseen=single, single_hard=single)]
    html = render_report(complete(rewards=models, steps=[], scaling=[], models=[]))
    table = html[html.index(f'aria-label="{name}"') :].partition("</table>")[0]
    widths = [
        sum(int(span or 1) for span in re.findall(r'<t[hd]\b(?:[^>]*colspan="(\d)")?', row))
        for row in table.split("<tr>")[1:]
    ]
    assert widths == widths[:1] * 3  # two rows of heads, one model


def test_single_model_has_a_row_of_its_own_in_the_table_of_all_categories(page):
    table = {"insult": {"insult": 0.8}, SINGLE: {"insult": 0.7}}
    assert "One model for all 70" in section(page(cross_accuracy=table))


def test_warnings_are_visible_sentences(page, reward):
    seen = page(rewards=[reward("insult", warnings=["its rewards go with length"])])
    assert "Insult: its rewards go with length." in words(seen.open_text)


def test_warning_that_ends_with_a_full_stop_gets_no_second_one(page, reward):
    assert ".." not in section(page(rewards=[reward("insult", warnings=["It may know length alone."])]))


def test_run_without_warnings_says_so(page, reward):
    assert "No warning was raised" in section(page(rewards=[reward("insult")]))


def test_correlation_with_length_is_visible(page, reward):
    assert "−0.83" in section(page(rewards=[reward("insult", length_correlation=-0.83)]))


def test_rules_of_thumb_are_folded(page, reward):
    seen = page(rewards=[reward("insult", rules={"the reddest answer": rate([True, False])})])
    assert ("The reddest answer" in seen.folded, "The reddest answer" in seen.open_text) == (True, False)


def test_rules_of_thumb_stand_beside_the_model_on_the_same_pairs(reward):
    # 2 of 3 completions and 3 of 5 hard negatives
    assert same_pairs(reward("insult")) == (5, 8)


def test_rules_of_the_benign_model_are_tried_on_its_completions_alone(reward):
    assert same_pairs(reward(BENIGN)) == (2, 3)


def test_kept_epoch_is_named_with_its_round(page, reward, curve):
    seen = section(page(rewards=[reward("insult", curve=curve(rounds=2, epochs=2, kept=2))]))
    assert "kept: epoch 3 of 4, round 2 of 2 accuracy 70.0 %, loss 0.60" in seen


def test_single_round_is_not_named(page, reward, curve):
    seen = section(page(rewards=[reward("insult", curve=curve(rounds=1, epochs=2, kept=1))]))
    assert "kept: epoch 2 of 2 accuracy" in seen


def test_curve_without_a_kept_epoch_says_so(page, reward, curve):
    assert "no epoch was kept" in section(page(rewards=[reward("insult", curve=curve(kept=-1))]))


def test_kept_epoch_has_a_ring_in_both_plots(curve):
    marks = [learning_curves(curve(kept=kept), "insult", (0.0, 1.0)).count("<use") for kept in (-1, 1)]
    assert marks[1] - marks[0] == 2


def test_rounds_are_numbered(curve):
    svg = learning_curves(curve(rounds=3, epochs=1), "insult", (0.0, 1.0))
    assert re.findall(r"round \d", "".join(ElementTree.fromstring(svg).itertext())) == ["round 1", "round 2", "round 3"]


def test_single_round_is_not_numbered(curve):
    svg = learning_curves(curve(rounds=1), "insult", (0.0, 1.0))
    assert "round" not in "".join(ElementTree.fromstring(svg).itertext())


def test_learning_curves_use_no_fixed_colour(curve):
    assert re.findall(r"#[0-9a-f]{6}\b", learning_curves(curve(), BENIGN, (0.0, 1.0))) == []


def test_equal_curves_give_equal_plots(curve):
    assert learning_curves(curve(), "insult", (0.0, 1.0)) == learning_curves(curve(), "insult", (0.0, 1.0))


def test_only_models_with_a_curve_have_a_panel(reward):
    panels = learning_panels([reward("insult"), reward(BENIGN, curve=[])])
    assert [panel.title for panel in panels] == ["Insult"]


def test_run_without_curves_says_so(page, reward):
    seen = section(page(rewards=[reward("insult", curve=[], loss=[])]))
    assert "No learning curve was recorded" in seen
    assert "No training loss was recorded" in seen


def test_loss_of_every_step_is_drawn_for_every_model(reward):
    svg = loss_curves([reward(category) for category in HARM_CATEGORIES])
    assert all(f"stroke: var(--c{n + 1})" in svg for n in range(len(HARM_CATEGORIES)))


def test_loss_that_is_never_finite_is_no_curve(reward):
    assert "stroke: var(--c1)" not in loss_curves([reward("insult", loss=[math.nan, math.inf])])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_formula_names_functions_that_exist(objective):
    named = [f for row in formulas({"reward": {"objective": objective}}, drawn_anew=True) for f in row.functions]
    assert all(callable(pkgutil.resolve_name(name)) for name in named)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_shown_is_the_one_that_the_run_used(page, reward, objective):
    seen = page(rewards=[reward("insult")], settings={"reward": {"objective": objective}})
    assert re.findall(r"losses\.(\w+)_loss", seen.open_text) == [objective]


def test_loss_of_a_run_that_names_none_is_that_of_inverse_rl(page, reward):
    assert re.findall(r"losses\.(\w+)_loss", page(rewards=[reward("insult")]).open_text) == ["ml_irl"]


def test_a_loss_that_another_package_brings_is_named_and_no_other_is_shown_for_it(page, reward):
    seen = page(rewards=[reward("insult")], settings={"reward": {"objective": "halved"}}).open_text
    assert "Loss, halved" in seen and not re.findall(r"losses\.(\w+)_loss", seen)


def test_drawing_anew_is_explained_only_where_there_were_several_rounds(page, reward, curve):
    seen = [page(rewards=[reward("insult", curve=curve(rounds=n))]).open_text for n in (1, 2)]
    assert ["resample.resample" in text for text in seen] == [False, True]
