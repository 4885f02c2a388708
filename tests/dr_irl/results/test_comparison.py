import pytest

from dr_irl.records import Answer
from dr_irl.results.comparison import compare_refusals


def answers(*flags: bool | None, ids: str = "abcdefgh") -> list[Answer]:
    return [
        Answer("harmful", prompt_id, "?", "insult", "text", flag, False)
        for prompt_id, flag in zip(ids, flags, strict=False)
    ]


def test_compare_refusals_names_the_suite_and_both_models():
    result = compare_refusals("harmful", "unaligned", "aligned", answers(False), answers(True))
    assert (result.suite, result.before, result.after, result.gained, result.lost, result.p_value) == (
        "harmful",
        "unaligned",
        "aligned",
        1,
        0,
        1.0,
    )


def test_compare_refusals_refuses_other_prompts():
    with pytest.raises(ValueError, match="answer 1 is to prompt 'b' before and 'c' after"):
        compare_refusals("harmful", "x", "y", answers(True, True, ids="ab"), answers(True, True, ids="ac"))


def test_compare_refusals_refuses_lists_of_different_length():
    with pytest.raises(ValueError, match="2 answers before and 1 after"):
        compare_refusals("harmful", "x", "y", answers(True, True), answers(True))
