"""Prompts and answers as token ids of the tiny model: one token per byte."""

import pytest
from transformers import PreTrainedTokenizerBase

from dr_irl.language.chat import preamble_length, prompt_ids, response_ids
from dr_irl.language.load import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer("bundled:tiny-random-lm")


def test_a_prompt_is_one_user_turn_and_the_start_of_the_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.decode(prompt_ids(tokenizer, ["Hi!"])[0]) == "<|user|>Hi!<|end|><|assistant|>"


def test_special_tokens_of_the_template_are_single_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    assert len(prompt_ids(tokenizer, ["Hi!"])[0]) == 6  # user, H, i, !, end, assistant


def test_prompts_are_not_padded(tokenizer: PreTrainedTokenizerBase) -> None:
    assert list(map(len, prompt_ids(tokenizer, ["a", "abc"]))) == [4, 6]


def test_no_prompts_give_no_rows(tokenizer: PreTrainedTokenizerBase) -> None:
    assert prompt_ids(tokenizer, []) == []


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        pytest.param("abc", "abc<|end|>", id="shorter than the limit: closed"),
        pytest.param("abcd", "abcd", id="as long as the limit: no room for the end"),
        pytest.param("abcdef", "abcd", id="longer than the limit: cut"),
        pytest.param("", "<|end|>", id="empty: the end alone"),
    ],
)
def test_an_answer_is_closed_where_the_limit_of_four_leaves_room(
    tokenizer: PreTrainedTokenizerBase, text: str, decoded: str
) -> None:
    assert tokenizer.decode(response_ids(tokenizer, [text], limit=4)[0]) == decoded


def test_no_answers_give_no_rows(tokenizer: PreTrainedTokenizerBase) -> None:
    assert response_ids(tokenizer, [], limit=4) == []


def test_the_preamble_ends_with_the_last_special_token_that_all_prompts_share(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    assert preamble_length(tokenizer) == 1  # user


def test_a_system_prompt_belongs_to_the_preamble() -> None:
    tokenizer = load_tokenizer("bundled:smollm2-135m-instruct")
    shared = preamble_length(tokenizer)
    # prompts that a tokenizer might merge with what stands before them
    rows = prompt_ids(tokenizer, ["Hi", "\n\nHi", "  7", "<b>"])
    assert tokenizer.decode(rows[0][:shared]).endswith("trained by Hugging Face<|im_end|>\n<|im_start|>")
    assert len({tuple(row[:shared]) for row in rows}) == 1
