"""A part is held out of data that came without one."""

import logging
from collections.abc import Callable

import pytest

from dr_irl.demonstrations.dedupe import similarity
from dr_irl.demonstrations.holdout import ALIKE, hold_out
from dr_irl.errors import DataError
from dr_irl.records import Example

Make = Callable[..., Example]
WORDS = ("egg", "bread", "soup", "rice", "bean", "cake", "salt", "pie", "nut", "fig", "plum", "kale", "leek", "oat")


def distinct(make_example: Make, count: int, **changes: str | None) -> list[Example]:
    return [make_example(f"{WORDS[i % 14]} {WORDS[(i // 14 + i) % 14]} number {i}", **changes) for i in range(count)]


def held(examples: list[Example]) -> list[Example]:
    return [example for example in examples if example.split == "heldout"]


def test_a_share_of_every_label_is_held_out_and_told(make_example: Make, caplog: pytest.LogCaptureFixture) -> None:
    rows = distinct(make_example, 40) + distinct(make_example, 20, category="benign")
    rows = [make_example(e.prompt, id=f"{e.category}{i}", category=e.category) for i, e in enumerate(rows)]
    with caplog.at_level(logging.WARNING):
        found = hold_out(rows, 0.2)
    assert [e.category for e in held(found)].count("insult") == 8
    assert [e.category for e in held(found)].count("benign") == 4
    assert "insult: no file has held-out rows of it; 8 of its 40 rows are held out" in caplog.text
    assert [e.prompt for e in found] == [e.prompt for e in rows]


def test_labels_that_have_held_out_rows_stay_as_they_are(make_example: Make) -> None:
    rows = [*distinct(make_example, 20), make_example("one more", split="heldout")]
    assert hold_out(rows, 0.2) == rows


def test_which_rows_are_held_out_does_not_depend_on_their_order(make_example: Make) -> None:
    rows = distinct(make_example, 30)
    assert {e.id for e in held(hold_out(rows, 0.2))} == {e.id for e in held(hold_out(rows[::-1], 0.2))}


def test_no_held_out_prompt_is_like_a_training_prompt(make_example: Make) -> None:
    rows = [
        make_example(f"{stem} with {WORDS[i]}")
        for stem in ("how do I cook the red one", "where can I find cheap old things", "why does nobody like this here")
        for i in range(6)
    ]
    found = hold_out(rows, 0.3)
    train = [e.prompt for e in found if e.split == "train"]
    assert len(held(found)) == 6
    assert all(similarity(e.prompt, other) < ALIKE for e in held(found) for other in train)


def test_where_all_prompts_are_alike_single_rows_are_held_out(make_example: Make) -> None:
    rows = [make_example(f"please say something unkind to the person number {i}") for i in range(10)]
    assert len(held(hold_out(rows, 0.2))) == 2


def test_rows_with_a_demonstration_are_held_out_first(make_example: Make) -> None:
    rows = distinct(make_example, 10) + [make_example("bare", response=None)]
    assert all(example.response for example in held(hold_out(rows, 0.5)))


def test_a_label_of_one_row_is_refused(make_example: Make) -> None:
    with pytest.raises(DataError, match="insult has 1 row, and no held-out one; at least 2 are needed"):
        hold_out([make_example()], 0.2)
