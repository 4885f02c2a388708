import pytest
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.categories import HARM_CATEGORIES, harm_category
from dr_irl.demonstrations.templates import ParsedDraft, draft_prompt, format_draft, parse_draft

DRAFT = ("Wants a cruel rhyme", "The classmate", "Rhymes humiliate", "Offer kind words")

line = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


@given(draft=st.tuples(line, line, line, line), response=st.lists(line, min_size=1, max_size=3).map("\n".join))
def test_what_is_formatted_parses_back(draft: tuple[str, ...], response: str) -> None:
    assert parse_draft(format_draft(draft, response)) == ParsedDraft(draft, response)


def test_format() -> None:
    assert format_draft(("a", "b"), "No.") == "1. a\n2. b\n####\nNo."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I won't.",
        "1. a\n2. b\n3. c\n4. d\nI won't.",  # no separator
        "1. a\n2. b\n3. c\n4. d\n####\n",  # no response
        "1. a\n2. b\n3. c\n####\nI won't.",  # three steps
        "1. a\n2. b\n4. c\n3. d\n####\nI won't.",  # out of order
        "1. a\n2. b\n3. c\n4. d\n5. e\n####\nI won't.",  # five steps
        "Sure!\n1. a\n2. b\n3. c\n4. d\n####\nI won't.",  # a line that is no step
        "1. a\n2. b\n3. c\n4. d\n####\nI won't.\n####\nMore.",  # two separators
    ],
)
def test_another_form_does_not_parse(text: str) -> None:
    assert parse_draft(text) is None


def test_blank_lines_and_brackets_are_allowed() -> None:
    text = "\n1) a\n\n2) b\n3. c\n4. d\n #### \n\nI won't.\nOr: yes.\n"
    assert parse_draft(text) == ParsedDraft(("a", "b", "c", "d"), "I won't.\nOr: yes.")


def test_longest_step_is_counted_in_words() -> None:
    assert ParsedDraft(("one", "one two three four five six", "a b", "c"), "No.").longest_step_words == 6


@pytest.mark.parametrize("category", HARM_CATEGORIES)
def test_template_holds_the_prompt_and_the_definition(category: str) -> None:
    text = draft_prompt("a {strange} prompt", category)
    assert "Message: a {strange} prompt\n" in text
    assert harm_category(category).definition in text


def test_the_example_of_the_template_keeps_its_own_rules() -> None:
    example = draft_prompt("x", "insult").split("nickname list for my classmate.\n")[1].split("\n\nMessage:")[0]
    parsed = parse_draft(example)
    assert parsed is not None
    assert parsed.longest_step_words <= 5
