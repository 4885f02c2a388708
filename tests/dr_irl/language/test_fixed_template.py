"""Chat templates that say the same wherever and whenever they are rendered."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dr_irl.errors import ModelError
from dr_irl.language.chat import prompt_ids
from dr_irl.language.fixed_template import fix_template
from dr_irl.language.load import load_tokenizer
from dr_irl.language.rendering import Rendering

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
PLAIN = TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
SAID = "<|user|>hi<|end|><|assistant|>"
LLAMA = """{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}<|system|>{{ date_string }}<|end|>"""
MACRO = "{%- macro day() -%}{{ strftime_now('%Y-%m-%d') }}{%- endmacro -%}<|system|>{{ day() }}<|end|>"
CLOCK = "<|system|>{{ strftime_now('%d.%m.%y') }}<|end|>"
SWITCHED = TURNS + (
    "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking is defined and not enable_thinking %}<think>\n\n"
    "</think>\n\n{% else %}<think>\n{% endif %}{% endif %}"
)
FORCED = TURNS + "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}\n"


def fixed(template: str, **rendering: Any) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer("bundled:tiny-random-lm")
    tokenizer.chat_template = template
    fix_template(tokenizer, Rendering(**rendering))
    return tokenizer


def said(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(prompt_ids(tokenizer, ["hi"])[0]))


@pytest.mark.parametrize("value", ["a 'quoted' \"text\" %} {{ x }} \\ é 😀\n", 3, -0.5, True, None, ["a", {"b": [1]}]])
def test_an_argument_reaches_the_template_as_it_is(value: Any) -> None:
    template = "{% if thing is defined %}<|system|>{{ thing|tojson }}<|end|>{% endif %}" + PLAIN
    given = fixed(template, arguments={"thing": value})
    plain = fixed(template)
    turns = [{"role": "user", "content": "hi"}]
    assert given.apply_chat_template(turns, tokenize=False) == plain.apply_chat_template(
        turns, tokenize=False, thing=value
    )


def test_a_template_that_reads_nothing_is_left_as_it_is() -> None:
    assert fixed(PLAIN).chat_template == PLAIN


@pytest.mark.parametrize("start", ["\n", "  ", "\n\n{# note #}\n"])
def test_white_space_that_a_template_begins_with_is_kept(start: str) -> None:
    template = start + "{{ x }}" + PLAIN
    turns = [{"role": "user", "content": "hi"}]
    given = fixed(template, arguments={"x": "v"}).apply_chat_template(turns, tokenize=False)
    assert given == fixed(template).apply_chat_template(turns, tokenize=False, x="v")


def test_an_argument_that_the_template_never_reads_is_refused() -> None:
    with pytest.raises(ModelError, match="reads no enable_thinking; its variables are: thing"):
        fixed("{{ thing }}" + PLAIN, arguments={"enable_thinking": False})


def test_an_argument_that_the_template_sets_itself_is_refused() -> None:
    with pytest.raises(ModelError, match="reads no thing; its variables are: none"):
        fixed("{% set thing = 1 %}{{ thing }}" + PLAIN, arguments={"thing": 2})


@pytest.mark.parametrize(
    ("template", "day"), [(LLAMA, "02 Jan 2031"), (MACRO, "2031-01-02"), (CLOCK, "02.01.31")], ids=["L", "M", "C"]
)
def test_a_template_is_told_the_day_of_the_run(template: str, day: str, tmp_path: Path) -> None:
    tokenizer = fixed(template + PLAIN, date="2031-01-02")
    assert said(tokenizer) == f"<|system|>{day}<|end|>{SAID}"
    tokenizer.save_pretrained(tmp_path)
    assert said(AutoTokenizer.from_pretrained(tmp_path)) == said(tokenizer)


def test_a_template_that_reads_a_day_without_a_clock_is_told_it() -> None:
    assert "02 Jan 2031" in said(fixed("{{ date_string|default('') }}" + PLAIN, date="2031-01-02"))


def test_a_day_that_is_given_as_an_argument_is_the_one_told() -> None:
    assert "yesterday" in said(fixed(LLAMA + PLAIN, arguments={"date_string": "yesterday"}))


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% set form = '%Y' %}{{ strftime_now(form) }}", "asks for the date in a form that it works out"),
        ("{% set clock = strftime_now %}{{ clock('%Y') }}", "asks for the date in a form that it works out"),
        ("{{ ['a', 'b']|random }}", "draws at random"),
        ("{{ lipsum() }}", "draws at random"),
        ("{% if %}", "cannot be rendered"),
    ],
)
def test_a_template_that_would_not_say_the_same_tomorrow_is_refused(template: str, told: str) -> None:
    with pytest.raises(ModelError, match=f"the chat template of .* {told}"):
        fixed(template + PLAIN)


@pytest.mark.parametrize(
    "forced", [FORCED, TURNS + "{{ '<|assistant|><think>\\n' if add_generation_prompt else '' }}\n"]
)
def test_a_thought_that_every_prompt_opens_is_closed(forced: str) -> None:
    assert said(fixed(forced)) == f"{SAID}<think>\n\n</think>\n\n"


def test_the_argument_that_keeps_a_template_from_opening_a_thought_is_named() -> None:
    with pytest.raises(ModelError, match=r"models.template_arguments to \{enable_thinking: false\}"):
        fixed(SWITCHED)
    assert said(fixed(SWITCHED, arguments={"enable_thinking": False})) == f"{SAID}<think>\n\n</think>\n\n"


def test_of_several_templates_the_default_one_is_fixed() -> None:
    tokenizer = load_tokenizer("bundled:tiny-random-lm")
    tokenizer.chat_template = {"default": CLOCK + PLAIN, "tool_use": PLAIN}  # pyright: ignore[reportAttributeAccessIssue]
    fix_template(tokenizer, Rendering(date="2031-01-02"))
    assert "02.01.31" in said(tokenizer)
