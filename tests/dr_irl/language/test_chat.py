"""Prompts and answers as token ids of the tiny model: one token per byte."""

import pytest
from transformers import PreTrainedTokenizerBase

from dr_irl.errors import ModelError
from dr_irl.language.chat import end_ids, preamble_length, prompt_ids, response_ids
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


def with_template(template: str) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer("bundled:tiny-random-lm")
    tokenizer.chat_template = template
    return tokenizer


GEMMA_LIKE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|system|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Closes a turn by another token than the tokenizer's end token."""
IN_PARTS = (
    "{% for m in messages %}<|{{ m.role }}|>{% for part in m.content if part.type == 'text' %}{{ part.text }}"
    "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_an_answer_is_closed_as_the_template_closes_it() -> None:
    tokenizer = with_template(GEMMA_LIKE)
    [ids] = response_ids(tokenizer, ["yes"], limit=9)
    assert tokenizer.convert_ids_to_tokens(ids[-1:]) == ["<|system|>"]


@pytest.mark.parametrize(("own", "expected"), [(None, set()), (7, {7}), ([7, 8], {7, 8})])
def test_an_answer_ends_where_generate_stops_and_where_a_turn_does(own: int | list[int], expected: set[int]) -> None:
    tokenizer = with_template(GEMMA_LIKE)
    system, end = tokenizer.convert_tokens_to_ids(["<|system|>", "<|end|>"])
    assert end_ids(tokenizer, own) == {system, end} | expected


def test_content_is_given_in_parts_where_the_template_wants_them() -> None:
    plain = load_tokenizer("bundled:tiny-random-lm")
    assert prompt_ids(with_template(IN_PARTS), ["hello"]) == prompt_ids(plain, ["hello"])


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% for m in messages %}<|user|><|end|>{% endfor %}", "leaves the text of a turn out"),
        ("{{ raise_exception('no such role') }}", r"cannot be rendered \(no such role\)"),
        ("{% for m in messages %}", r"cannot be rendered \("),
    ],
)
def test_a_template_that_shows_no_prompt_is_refused(template: str, told: str) -> None:
    with pytest.raises(ModelError, match=f"the chat template of .* {told}"):
        prompt_ids(with_template(template), ["hello"])
