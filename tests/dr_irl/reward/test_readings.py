"""What is concluded from scored pairs, with numbers small enough to check by hand."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.categories import ALL_LABELS, BENIGN, HARM_CATEGORIES, SINGLE
from dr_irl.records import RewardReading
from dr_irl.results.summaries import LearningPoint, RewardSummary
from dr_irl.reward.hard_negatives import COMPLETION, KINDS
from dr_irl.reward.readings import (
    RULES,
    accuracy,
    cross_accuracy,
    gap,
    length_correlation,
    summarise_reward,
    warnings,
)


def reading(
    demonstration: float = 1.0,
    other: float = 0.0,
    *,
    model: str = "insult",
    category: str = "insult",
    kind: str = COMPLETION,
    tokens: tuple[int, int] = (5, 5),
    refuses: tuple[bool | None, bool | None] = (None, None),
) -> RewardReading:
    return RewardReading(
        model=model,
        category=category,
        kind=kind,
        prompt_id="p",
        demonstration_reward=demonstration,
        other_reward=other,
        demonstration_tokens=tokens[0],
        other_tokens=tokens[1],
        demonstration_refuses=refuses[0],
        other_refuses=refuses[1],
    )


WON, TIED, LOST = (1.0, 0.0), (0.5, 0.5), (0.0, 1.0)


def outcomes(*pairs: tuple[float, float], **options: str) -> list[RewardReading]:
    return [reading(*pair, **options) for pair in pairs]


def summary(readings: Sequence[RewardReading], label: str = "insult", **options: Sequence[float]) -> RewardSummary:
    values: dict = {"train_rows": 7, "validation_gaps": [], "loss": [], "curve": []} | options
    return summarise_reward(label, readings, **values)


def test_gap_is_positive_where_the_demonstration_wins() -> None:
    assert gap(reading(0.75, -0.5)) == 1.25


def test_accuracy_counts_the_pairs_that_are_won() -> None:
    result = accuracy(outcomes(WON, WON, LOST))
    assert (result.hits, result.count) == (2, 3)


def test_tie_is_not_won() -> None:
    assert accuracy(outcomes(TIED)).hits == 0


def test_cross_accuracy_is_every_model_on_every_category() -> None:
    readings = outcomes(WON, LOST, model="insult", category="insult")
    readings += outcomes(WON, WON, WON, LOST, model="insult", category="physical_harm")
    readings += outcomes(LOST, model="physical_harm", category="insult")
    readings += outcomes(WON, model="physical_harm", category="physical_harm")
    found = cross_accuracy(readings)
    assert {model: (row["insult"], row["physical_harm"]) for model, row in found.items()} == {
        "insult": (0.5, 0.75),
        "physical_harm": (0.0, 1.0),
    }


def test_cross_accuracy_looks_at_completions_only() -> None:
    readings = [*outcomes(WON), *outcomes(LOST, LOST, kind="empty")]
    assert cross_accuracy(readings)["insult"]["insult"] == 1.0


def test_cross_accuracy_of_unmeasured_categories_is_nan() -> None:
    (row,) = cross_accuracy(outcomes(WON)).values()
    assert {name for name, value in row.items() if math.isnan(value)} == set(ALL_LABELS) - {"insult"}


def test_cross_accuracy_lists_models_in_the_order_of_labels_and_the_single_one_last() -> None:
    names = [SINGLE, BENIGN, *reversed(HARM_CATEGORIES)]
    found = cross_accuracy([reading(model=name) for name in names])
    assert list(found) == [*HARM_CATEGORIES, BENIGN, SINGLE]


def test_cross_accuracy_lists_categories_in_the_order_of_labels() -> None:
    assert list(cross_accuracy(outcomes(WON))["insult"]) == list(ALL_LABELS)


@pytest.mark.parametrize(
    ("rule", "tokens", "refuses", "wins"),
    [
        ("the longer answer", (6, 5), (None, None), True),
        ("the longer answer", (5, 6), (None, None), False),
        ("the longer answer", (5, 5), (None, None), False),  # a tie
        ("the shorter answer", (5, 6), (None, None), True),
        ("the shorter answer", (6, 5), (None, None), False),
        ("the shorter answer", (5, 5), (None, None), False),  # a tie
        ("the answer worded as a refusal", (5, 5), (True, False), True),
        ("the answer worded as a refusal", (5, 5), (True, None), True),
        ("the answer worded as a refusal", (5, 5), (True, True), False),  # a tie
        ("the answer worded as a refusal", (5, 5), (None, False), False),  # neither is worded as one
        ("the answer worded as a refusal", (5, 5), (False, True), False),
        ("the answer not worded as a refusal", (5, 5), (False, True), True),
        ("the answer not worded as a refusal", (5, 5), (None, True), True),
        ("the answer not worded as a refusal", (5, 5), (True, True), False),  # a tie
        ("the answer not worded as a refusal", (5, 5), (False, None), False),  # neither is worded as one
        ("the answer not worded as a refusal", (5, 5), (True, False), False),
    ],
)
def test_rule_of_thumb(
    rule: str, tokens: tuple[int, int], refuses: tuple[bool | None, bool | None], wins: bool
) -> None:
    assert RULES[rule](reading(tokens=tokens, refuses=refuses)) is wins


def test_length_correlation_by_hand() -> None:
    # ranks of rewards 1 2 3 4, of lengths 1 3 2 4: 1 - 6 (0 + 1 + 1 + 0) / (4 * 15) = 0.8
    rows = [reading(0.1, 0.2, tokens=(10, 30)), reading(0.3, 9.0, tokens=(20, 40))]
    assert length_correlation(rows) == pytest.approx(0.8)


def test_length_correlation_shares_ranks_between_equals() -> None:
    # ranks of rewards 1 2 3 4, of lengths 1.5 1.5 3.5 3.5: covariance 4, variances 5 and 4
    rows = [reading(1.0, 2.0, tokens=(5, 5)), reading(3.0, 4.0, tokens=(7, 7))]
    assert length_correlation(rows) == pytest.approx(4 / math.sqrt(5 * 4))


@given(st.lists(st.integers(1, 50), min_size=2, unique=True))
def test_rewards_that_fall_with_length_in_any_way_correlate_perfectly(lengths: list[int]) -> None:
    rows = [reading(1 / count, 1 / count, tokens=(count, count)) for count in lengths]
    assert length_correlation(rows) == pytest.approx(-1.0)


@pytest.mark.filterwarnings("error")  # it is told beforehand, not left to scipy to complain of
@pytest.mark.parametrize(
    "rows",
    [
        [reading(1.0, 0.0, tokens=(5, 5)), reading(2.0, 3.0, tokens=(5, 5))],  # equally long
        [reading(1.0, 1.0, tokens=(5, 6))],  # equally rewarded
        [],
    ],
)
def test_length_correlation_with_a_constant_is_nan(rows: list[RewardReading]) -> None:
    assert math.isnan(length_correlation(rows))


READINGS = st.builds(
    reading,
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.0, 1.0]),
    tokens=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    refuses=st.tuples(*[st.sampled_from([True, False, None])] * 2),
)


@given(st.lists(READINGS, min_size=1, max_size=6))
def test_rules_that_do_as_well_as_the_model_are_warned_of_and_no_others(readings: list[RewardReading]) -> None:
    won = sum(row.demonstration_reward > row.other_reward for row in readings)
    as_good = {name for name, rule in RULES.items() if sum(rule(row) for row in readings) >= won}
    found = warnings(readings)
    assert {name for name in RULES for text in found if text.startswith(f"choosing {name} is right")} == as_good


def test_warning_says_both_counts() -> None:
    # the demonstration is longer in two of three pairs; the model is right on one
    readings = [reading(*WON, tokens=(9, 5)), reading(*LOST, tokens=(9, 5)), reading(*LOST, tokens=(5, 9))]
    assert warnings(readings)[0] == (
        "choosing the longer answer is right on 2 of 3 pairs, this model on 1: it may know no more than that rule"
    )


def test_model_that_beats_every_rule_is_not_warned_of() -> None:
    # right where the demonstration is longer, where it is shorter, where it refuses, and where it does not
    readings = [
        reading(5.0, 1.0, tokens=(9, 5), refuses=(True, False)),
        reading(6.0, 2.0, tokens=(5, 9), refuses=(False, True)),
    ]
    assert warnings(readings) == []


def ranked(lengths: Sequence[int]) -> list[RewardReading]:
    """Two pairs whose rewards have ranks 2 1 4 3, so that the demonstration wins both."""
    return [reading(2.0, 1.0, tokens=(lengths[0], lengths[1])), reading(4.0, 3.0, tokens=(lengths[2], lengths[3]))]


@pytest.mark.parametrize(
    ("lengths", "correlation"),
    [([3, 1, 4, 2], "0.80"), ([2, 4, 1, 3], "-0.80")],
)
def test_rewards_that_go_with_length_are_warned_of(lengths: list[int], correlation: str) -> None:
    # sums of squared differences of ranks: 2 and 18
    expected = f"its rewards go with length (Spearman {correlation}): it may know length alone"
    assert expected in warnings(ranked(lengths))


def test_rewards_that_hardly_go_with_length_are_not_warned_of() -> None:
    # ranks 2 1 4 3 and 1 2 3 4: 1 - 6 (1 + 1 + 1 + 1) / (4 * 15) = 0.6
    assert not [text for text in warnings(ranked([1, 2, 3, 4])) if text.startswith("its rewards go with length")]


def test_nothing_measured_warns_of_nothing() -> None:
    assert warnings([]) == []


def test_summary_reads_the_own_model_on_the_own_category() -> None:
    foreign = outcomes(LOST, model="physical_harm") + outcomes(LOST, category="physical_harm")
    result = summary([*outcomes(WON, WON, LOST), *foreign])
    assert (result.unseen_accuracy.hits, result.unseen_accuracy.count) == (2, 3)


def test_hard_negatives_do_not_enter_the_unseen_accuracy() -> None:
    result = summary([*outcomes(WON), *outcomes(LOST, kind="empty")])
    assert (result.unseen_accuracy.hits, result.unseen_accuracy.count) == (1, 1)


def test_unseen_gap_is_the_mean_over_completions() -> None:
    result = summary([reading(3.0, 1.0), reading(0.0, 1.0), reading(9.0, 0.0, kind="empty")])
    assert (result.unseen_gap.value, result.unseen_gap.count) == (0.5, 2)


def test_validation_is_read_from_its_gaps() -> None:
    result = summary([], validation_gaps=[2.0, -1.0, 0.0, 1.0])
    found = result.validation_accuracy, result.validation_gap
    assert [(found[0].hits, found[0].count), (found[1].value, found[1].count)] == [(2, 4), (0.5, 4)]


def test_hard_accuracy_is_counted_by_kind_and_together() -> None:
    readings = [*outcomes(WON, LOST, kind="empty"), *outcomes(WON, kind="repeated"), *outcomes(LOST)]
    found = {name: (r.hits, r.count) for name, r in summary(readings).hard_accuracy.items()}
    assert found == dict.fromkeys(KINDS, (0, 0)) | {"empty": (1, 2), "repeated": (1, 1), "all": (2, 3)}


def test_hard_accuracy_is_left_out_where_there_are_no_hard_negatives() -> None:
    assert summary(outcomes(WON, category=BENIGN, model=BENIGN), BENIGN).hard_accuracy == {}


def test_single_model_is_read_on_the_same_completions() -> None:
    single = outcomes(WON, LOST, model=SINGLE) + outcomes(WON, model=SINGLE, kind="empty")
    single += outcomes(WON, model=SINGLE, category="physical_harm")
    found = summary([*outcomes(WON, WON), *single]).single_unseen
    assert found is not None and (found.hits, found.count) == (1, 2)


def test_single_model_is_read_on_the_same_hard_negatives() -> None:
    single = outcomes(WON, model=SINGLE) + outcomes(LOST, WON, LOST, model=SINGLE, kind="empty")
    found = summary([*outcomes(WON, kind="empty"), *single]).single_hard
    assert found is not None and (found.hits, found.count) == (1, 3)


def test_without_a_single_model_nothing_is_said_of_one() -> None:
    result = summary([*outcomes(WON), *outcomes(WON, kind="empty")])
    assert (result.single_unseen, result.single_hard) == (None, None)


def test_single_model_without_hard_negatives_has_no_hard_accuracy() -> None:
    assert summary([*outcomes(WON), *outcomes(WON, model=SINGLE)]).single_hard is None


def test_nothing_is_said_of_the_single_model_on_ordinary_prompts() -> None:
    # it was trained on rows of harm categories
    readings = [*outcomes(WON, model=BENIGN, category=BENIGN), *outcomes(LOST, model=SINGLE, category=BENIGN)]
    assert summary(readings, BENIGN).single_unseen is None


def test_rules_are_measured_on_completions_and_hard_negatives() -> None:
    readings = [reading(tokens=(9, 5)), reading(tokens=(9, 5), kind="empty"), reading(tokens=(5, 9), kind="repeated")]
    found = summary(readings).rules["the longer answer"]
    assert (found.hits, found.count) == (2, 3)


def test_length_and_warnings_are_those_of_the_own_model() -> None:
    # own rewards rise with length, the single model's fall
    own = [reading(1.0, 0.0, tokens=(9, 5)), reading(3.0, 2.0, tokens=(30, 20))]
    single = [reading(0.0, 1.0, tokens=(9, 5), model=SINGLE), reading(-3.0, -2.0, tokens=(30, 20), model=SINGLE)]
    result = summary([*own, *single])
    assert (result.length_correlation, result.warnings) == (pytest.approx(1.0), warnings(own))


def test_training_is_handed_on() -> None:
    point = LearningPoint(step=3, round=0, loss=0.5, validation_loss=0.6, accuracy=1.0, gap=0.1, kept=True)
    result = summarise_reward("insult", [], train_rows=7, validation_gaps=[], loss=[0.7, 0.5], curve=[point])
    assert (result.category, result.train_rows, result.loss, result.curve) == ("insult", 7, [0.7, 0.5], [point])
