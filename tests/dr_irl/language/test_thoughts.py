"""Answers without the thoughts before them."""

import pytest

from dr_irl.language.thoughts import PAIRS, answer_of, marks_among, open_thought

HARMONY = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>No."


@pytest.mark.parametrize(("begin", "end"), PAIRS)
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        pytest.param("{b}\nhm\n{e}\n\nNo.", "No.", id="after the thought"),
        pytest.param("hm{e}No.", "No.", id="the prompt began the thought"),
        pytest.param("{b}hm", "", id="a thought without an end"),
        pytest.param("Well.{b}hm", "", id="a late thought without an end"),
        pytest.param("{b}hm{e}No{b}hm{e}, never.", "No, never.", id="several thoughts"),
        pytest.param("{b}a{b}b{e}c{e}No.", "No.", id="a thought in a thought"),
        pytest.param("{b}{e}", "", id="nothing after it"),
    ],
)
def test_an_answer_is_what_stands_outside_thoughts(begin: str, end: str, text: str, answer: str) -> None:
    assert answer_of(text.format(b=begin, e=end)) == answer


@pytest.mark.parametrize("text", ["", "No.", " No.\n", "a < b, [think] and <b>bold</b>"])
def test_a_text_without_a_thought_is_left_as_it_is(text: str) -> None:
    assert answer_of(text) == text


@pytest.mark.parametrize(
    ("text", "answer"), [(HARMONY, "No."), (HARMONY.partition("<|end|>")[0], ""), (HARMONY + "<|return|>", "No.")]
)
def test_of_several_messages_the_final_one_is_the_answer(text: str, answer: str) -> None:
    assert answer_of(text) == answer


@pytest.mark.parametrize(
    ("prompt", "closing"),
    [
        ("<|assistant|><think>\n", "\n</think>\n\n"),
        ("<|assistant|><think>", "</think>"),
        ("[THINK]", "[/THINK]"),
        ("<|assistant|>", None),
        ("Put thoughts into <think>...</think>.<|assistant|>", None),
        ("<|assistant|><think>\n\n</think>\n\n", None),
    ],
)
def test_a_thought_that_a_prompt_ends_in_is_seen(prompt: str, closing: str | None) -> None:
    assert open_thought(prompt) == closing


@pytest.mark.parametrize(
    ("tokens", "marks"),
    [
        ({"<|end|>", "<|user|>"}, set()),
        ({"<|channel|>", "<|message|>", "<|end|>", "<|pad|>"}, {"<|channel|>", "<|message|>", "<|end|>"}),
        ({"[THINK]", "[/THINK]", "</s>"}, {"[THINK]", "[/THINK]"}),
    ],
)
def test_only_tokens_that_part_thoughts_from_answers_are_marks(tokens: set[str], marks: set[str]) -> None:
    assert marks_among(tokens) == marks
