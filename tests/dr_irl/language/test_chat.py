"""Prompts and answers as token ids of the tiny model: one token per byte."""

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase

from dr_irl.errors import ModelError
from dr_irl.language.chat import (
    end_ids,
    preamble_length,
    prompt_ids,
    response_ids,
    sampled_text,
    thought_marks,
)
from dr_irl.language.load import load_tokenizer
from dr_irl.language.thoughts import answer_of


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


CHANNELS = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}<|system|>final{% endif %}{{ m.content }}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Writes something between the start of an answer and its text."""


def test_an_answer_is_opened_as_the_template_opens_it() -> None:
    tokenizer = with_template(CHANNELS)
    assert tokenizer.decode(response_ids(tokenizer, ["yes"], limit=99)[0]) == "<|system|>finalyes<|end|>"


def test_white_space_before_an_answer_is_left_to_the_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    spaced = with_template(CHANNELS.replace("<|system|>final", " "))
    assert response_ids(spaced, ["yes"], limit=99) == response_ids(tokenizer, ["yes"], limit=99)


def test_an_answer_is_tokenised_without_its_thought(tokenizer: PreTrainedTokenizerBase) -> None:
    [ids] = response_ids(tokenizer, ["<think>hm</think> yes"], limit=99)
    assert tokenizer.decode(ids) == "yes<|end|>"


def test_special_tokens_that_part_a_thought_from_an_answer_stay_in_the_text() -> None:
    tokenizer = load_tokenizer("bundled:tiny-random-lm")
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    marks = thought_marks(tokenizer)
    ids = tokenizer("[THINK]hm[/THINK] no<|end|>", add_special_tokens=False)["input_ids"]
    assert sampled_text(tokenizer, ids, marks) == "[THINK]hm[/THINK] no"
    assert answer_of(sampled_text(tokenizer, ids, marks)) == "no"


def test_an_ordinary_tokenizer_has_no_marks_of_thoughts(tokenizer: PreTrainedTokenizerBase) -> None:
    assert thought_marks(tokenizer) == frozenset()


def test_a_template_without_a_system_role_is_no_matter(tokenizer: PreTrainedTokenizerBase) -> None:
    strict = with_template(
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + str(tokenizer.chat_template)
    )
    assert prompt_ids(strict, ["Hi!"]) == prompt_ids(tokenizer, ["Hi!"])


@pytest.mark.parametrize("written", ["{{ bos_token }}", ""], ids=["by the template", "by nobody"])
def test_a_beginning_is_written_by_the_template_alone(tokenizer: PreTrainedTokenizerBase, written: str) -> None:
    own = with_template(written + str(tokenizer.chat_template))
    own.bos_token = "<|system|>"
    system = own.convert_tokens_to_ids("<|system|>")
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|system|> $A", special_tokens=[("<|system|>", system)]
    )
    assert own("a")["input_ids"][0] == system
    assert prompt_ids(own, ["a"])[0].count(system) == bool(written)
    assert system not in response_ids(own, ["a"], limit=9)[0]
