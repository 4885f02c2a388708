"""Prompts that fill a model's context are left out, and told."""

from collections.abc import Callable

import pytest

from dr_irl.demonstrations.fitting import leave_out_too_long
from dr_irl.records import Example


def test_what_leaves_no_room_is_left_out_with_its_reason(make_example: Callable[..., Example]) -> None:
    rows = [make_example("a b"), make_example("a b c"), make_example("a b c d", split="heldout")]
    kept, left_out = leave_out_too_long(rows, lambda prompts: [len(p.split()) for p in prompts], 3)
    assert kept == rows[:2]
    assert left_out == [(rows[2], "longer than the model's context")]


def test_nothing_is_counted_where_nothing_bounds_a_prompt(make_example: Callable[..., Example]) -> None:
    assert leave_out_too_long([make_example()], lambda _: pytest.fail("counted"), None) == ([make_example()], [])
