from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.categories import ALL_LABELS, BENIGN, HARM_CATEGORIES
from dr_irl.demonstrations.balance import (
    balance,
    category_counts,
    normalised_entropy,
    summarise_balance,
    wanted_rows,
)
from dr_irl.errors import DataError
from dr_irl.records import Example


def rows(label: str, count: int, source: str = "direct", **changes: str | None) -> list[Example]:
    fields = {"category": label, "source": source, "split": "train", "response": "No.", "draft": (), "confidence": None}
    return [Example(id=f"{label}-{source}-{i:03}", prompt=f"p{i}", **(fields | changes)) for i in range(count)]


def every_label(count: int) -> list[Example]:
    return [row for label in ALL_LABELS for row in rows(label, count)]


def run(
    examples: list[Example],
    *,
    wanted: int = 2,
    benign: int = 2,
    newest: Sequence[set[str]] = (),
    repeats: bool = False,
    seed: int = 0,
):
    generator = np.random.default_rng(seed)
    return balance(examples, wanted_rows(wanted, benign), newest=newest, allow_repeats=repeats, generator=generator)


sizes = st.lists(st.integers(3, 12), min_size=8, max_size=8)


@given(sizes=sizes, wanted=st.integers(0, 3), seed=st.integers(0, 9))
def test_categories_become_equal(sizes: list[int], wanted: int, seed: int) -> None:
    examples = [row for label, size in zip(ALL_LABELS, sizes, strict=True) for row in rows(label, size)]
    counts = category_counts(run(examples, wanted=wanted, benign=1, seed=seed))
    assert counts == dict.fromkeys(HARM_CATEGORIES, wanted) | {BENIGN: 1}


@given(sizes=sizes, seed=st.integers(0, 9))
def test_no_row_is_repeated(sizes: list[int], seed: int) -> None:
    examples = [row for label, size in zip(ALL_LABELS, sizes, strict=True) for row in rows(label, size)]
    ids = [row.id for row in run(examples, wanted=3, seed=seed)]
    assert len(ids) == len(set(ids))


@given(order=st.permutations(range(8 * 4)))
def test_order_of_the_input_does_not_matter(order: list[int]) -> None:
    examples = every_label(4)
    assert run([examples[i] for i in order]) == run(examples)


def test_result_is_ordered_by_category_then_id() -> None:
    drawn = run(list(reversed(every_label(9))), wanted=5, benign=5)
    assert [(ALL_LABELS.index(str(e.category)), e.id) for e in drawn] == sorted(
        (ALL_LABELS.index(str(e.category)), e.id) for e in drawn
    )


def test_another_generator_draws_other_rows() -> None:
    assert run(every_label(30), seed=0) != run(every_label(30), seed=1)


def test_sources_are_as_even_as_they_can_be() -> None:
    # 7 wanted from sources of 1, 9 and 9: the small one gives its 1, the others share 6.
    examples = [e for e in every_label(7) if e.category != "insult"]
    examples += rows("insult", 1, "a") + rows("insult", 9, "b") + rows("insult", 9, "c")
    drawn = [e.source for e in run(examples, wanted=7) if e.category == "insult"]
    assert Counter(drawn) == {"a": 1, "b": 3, "c": 3}


def test_benign_rows_are_spread_over_their_sources() -> None:
    examples = [e for e in every_label(2) if e.category != BENIGN]
    examples += rows(BENIGN, 20, "ordinary") + rows(BENIGN, 5, "lookalike")
    drawn = [e.source for e in run(examples, benign=8) if e.category == BENIGN]
    assert Counter(drawn) == {"ordinary": 4, "lookalike": 4}


def new_rows(count: int, source: str) -> tuple[list[Example], set[str]]:
    found = rows("insult", count, source)
    return found, {row.id for row in found}


@given(seed=st.integers(0, 9))
def test_new_findings_are_drawn_among_many_old_rows(seed: int) -> None:
    new, ids = new_rows(3, "z")
    drawn = run(every_label(50) + new, wanted=6, newest=[ids], seed=seed)
    assert ids <= {row.id for row in drawn}


def test_new_findings_leave_half_of_a_category_to_the_past() -> None:
    # 6 wanted: 3 are drawn from the new ones, and the other 3 as evenly as can be from 50 old and 47 new.
    new, ids = new_rows(50, "z")
    drawn = [row.source for row in run(every_label(50) + new, wanted=6, newest=[ids]) if row.category == "insult"]
    assert Counter(drawn) == {"z": 3 + 1, "direct": 2}


def test_the_newest_findings_come_before_those_before_them() -> None:
    (older, older_ids), (newer, newer_ids) = new_rows(9, "y"), new_rows(2, "z")
    drawn = run(every_label(50) + older + newer, wanted=6, newest=[newer_ids, older_ids])
    assert newer_ids <= {row.id for row in drawn}


@given(seed=st.integers(0, 9))
def test_a_row_that_is_new_twice_takes_one_place(seed: int) -> None:
    new, ids = new_rows(3, "z")
    drawn = run(every_label(50) + new, wanted=6, newest=[{new[0].id}, ids], seed=seed)
    assert ids <= {row.id for row in drawn}


def test_shortfall_names_every_short_category_with_its_count() -> None:
    examples = [e for e in every_label(3) if e.category not in ("insult", "mental_health")] + rows("insult", 1)
    with pytest.raises(DataError, match=r"insult has 1 of 3; mental_health has 0 of 3; add sources"):
        run(examples, wanted=3)


def test_shortfall_of_benign_rows_is_an_error() -> None:
    with pytest.raises(DataError, match=r"benign has 2 of 5; .*balance\.benign_rows"):
        run(every_label(2), benign=5)


@pytest.mark.parametrize("changes", [{"split": "heldout"}, {"response": None}])
def test_only_training_rows_with_a_response_count(changes: dict[str, str | None]) -> None:
    examples = [e for e in every_label(2) if e.category != "insult"] + rows("insult", 2, **changes)
    with pytest.raises(DataError, match="insult has 0 of 2"):
        run(examples)


def test_a_row_given_twice_counts_once() -> None:
    with pytest.raises(DataError, match="insult has 1 of 2"):
        run([e for e in every_label(2) if e.category != "insult"] + rows("insult", 1) * 2)


def test_repeats_fill_a_light_category_evenly() -> None:
    examples = [e for e in every_label(7) if e.category != "insult"] + rows("insult", 3)
    drawn = Counter(e.id for e in run(examples, wanted=7, repeats=True) if e.category == "insult")
    assert sorted(drawn.values()) == [2, 2, 3]


def test_repeats_cannot_fill_an_empty_category() -> None:
    with pytest.raises(DataError, match="insult has 0 of 2"):
        run([e for e in every_label(2) if e.category != "insult"], repeats=True)


@given(counts=st.lists(st.integers(0, 1000), min_size=7, max_size=7))
def test_entropy_is_a_share_and_one_only_where_all_are_equal(counts: list[int]) -> None:
    entropy = normalised_entropy(dict(zip(HARM_CATEGORIES, counts, strict=True)))
    assert 0 <= entropy <= 1
    assert (entropy > 1 - 1e-12) == (len(set(counts)) == 1 and counts[0] > 0)


def test_entropy_of_two_equal_categories_is_log_2_over_log_7() -> None:
    assert normalised_entropy({"insult": 5, "privacy_property": 5}) == pytest.approx(0.6931472 / 1.9459101)


def test_entropy_leaves_benign_rows_out() -> None:
    equal = dict.fromkeys(HARM_CATEGORIES, 3)
    assert normalised_entropy(equal | {BENIGN: 999}) == pytest.approx(1)


def test_counts_name_every_label_and_skip_rows_without_one() -> None:
    counts = category_counts([*rows("insult", 2), *rows(BENIGN, 1), *rows("insult", 1, "other", category=None)])
    assert counts == dict.fromkeys(ALL_LABELS, 0) | {"insult": 2, BENIGN: 1}


def test_summary_compares_training_rows() -> None:
    before = rows("insult", 3) + rows("insult", 9, "held", split="heldout") + rows("mental_health", 1)
    dropped = {"a.csv": {"near duplicate": 4}, "b.csv": {"near duplicate": 1}}
    summary = summarise_balance(before, every_label(1), dropped)
    assert (summary.before["insult"], summary.after["insult"], summary.reasons) == (3, 1, {"near duplicate": 5})
    # -(3/4 ln 3/4 + 1/4 ln 1/4) / ln 7
    assert summary.entropy_before == pytest.approx(0.5623351 / 1.9459101)
    assert summary.entropy_after == pytest.approx(1)
