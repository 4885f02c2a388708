"""Clauses of texts that people and models write."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dr_irl.scaling.clauses import split_clauses

PUNCTUATED = st.text(alphabet="abcU .,;:!?…-—\n\"'()•😀。，“”我你", max_size=80)


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("", []),
        ("  \n \u3000\t", []),
        ("just a few words without an end", ["just a few words without an end"]),
        ("ok", ["ok"]),
        ("?!", ["?!"]),
        ("I will not help. Please call a doctor.", ["I will not help.", "Please call a doctor."]),
        ("I cannot do that, but I can listen.", ["I cannot do that,", "but I can listen."]),
        ("I sell apples, pears and very old cheese.", ["I sell apples, pears and very old cheese."]),
        ("It is very wrong - you could hurt him.", ["It is very wrong -", "you could hurt him."]),
        ("It is very wrong—you could hurt him.", ["It is very wrong—", "you could hurt him."]),
        ("A well-known man lived here, 1990–2000.", ["A well-known man lived here, 1990–2000."]),
    ],
)
def test_sentences_are_cut_at_their_ends_and_conjunctions(text: str, clauses: list[str]) -> None:
    assert split_clauses(text) == clauses


@pytest.mark.parametrize(
    "text",
    [
        "I talked to Dr. Smith about it.",
        "A letter from J. R. Smith of the U.S. Army.",
        "Please wear something, e.g. a mask that fits.",
        "The only other way, i.e. asking her, is better.",
        "You can find it in No. 5 on the left.",
        "We met at 5 p.m. at the old house.",
    ],
)
def test_abbreviations_end_no_clause(text: str) -> None:
    assert split_clauses(text) == [text]


def test_abbreviation_before_a_capital_can_end_a_sentence() -> None:
    assert split_clauses("We met at 5 p.m. Then we went home.") == ["We met at 5 p.m.", "Then we went home."]


def test_the_answer_no_is_not_the_abbreviation_of_number() -> None:
    assert split_clauses("I told you no. It would hurt him.") == ["I told you no.", "It would hurt him."]


@pytest.mark.parametrize(
    "text",
    [
        "The price of it is 3.5 dollars each.",
        "The train leaves us at 10:30 every day.",
        "Look at https://example.org/a.b?c=d:e;f for help.",
    ],
)
def test_punctuation_within_a_word_ends_no_clause(text: str) -> None:
    assert split_clauses(text) == [text]


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("1. Open the door.\n2. Leave the room.", ["1. Open the door.", "2. Leave the room."]),
        ("Yes, please. 2. Leave the room. 3. Lock it up.", ["Yes, please. 2. Leave the room.", "3. Lock it up."]),
        ("- walk all the way\n- take the bus home", ["- walk all the way", "- take the bus home"]),
        ("* walk all the way\n* take the bus home", ["* walk all the way", "* take the bus home"]),
        ("• walk all the way • take the bus home", ["• walk all the way", "• take the bus home"]),
        ("I see two ways: a) walk there, b) take the bus.", ["I see two ways:", "a) walk there,", "b) take the bus."]),
        ("first line of two\n\nsecond line of two", ["first line of two", "second line of two"]),
    ],
)
def test_items_of_lists_and_lines_are_clauses_with_their_marks(text: str, clauses: list[str]) -> None:
    assert split_clauses(text) == clauses


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ('He said "leave me alone now." Then he went away.', ['He said "leave me alone now."', "Then he went away."]),
        ("He said “leave me alone!” Then he went away.", ["He said “leave me alone!”", "Then he went away."]),
        ("Call me (any time of day.) Then we talk.", ["Call me (any time of day.)", "Then we talk."]),
        ("I am not sure... maybe we can talk.", ["I am not sure...", "maybe we can talk."]),
        ("What did he say?! Nobody knows it.", ["What did he say?!", "Nobody knows it."]),
        ("That is very good! 😀👍 Thanks for your help.", ["That is very good! 😀👍", "Thanks for your help."]),
    ],
)
def test_what_closes_a_clause_belongs_to_it(text: str, clauses: list[str]) -> None:
    assert split_clauses(text) == clauses


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("我不能帮你做这件事。请你联系医生；他会帮助你。", ["我不能帮你做这件事。", "请你联系医生；", "他会帮助你。"]),
        ("他对我说：“不可以这样做。”然后他走了。", ["他对我说：", "“不可以这样做。”", "然后他走了。"]),
        ('他对我说："不可以这样做。"然后他走了。', ["他对我说：", '"不可以这样做。"', "然后他走了。"]),
        ("如果你很难过，请告诉我！你还好吗？", ["如果你很难过，", "请告诉我！", "你还好吗？"]),
        ("他就这样走了……我们也走了。", ["他就这样走了……", "我们也走了。"]),
    ],
)
def test_chinese_is_cut_without_spaces(text: str, clauses: list[str]) -> None:
    assert split_clauses(text) == clauses


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("No. I would never do that.", ["No. I would never do that."]),
        ("I would never do that. Sorry.", ["I would never do that. Sorry."]),
        ("I would never. - - - Please call a doctor.", ["I would never.", "- - - Please call a doctor."]),
        ("不。我不会这样做。", ["不。 我不会这样做。"]),
    ],
)
def test_fragments_join_their_neighbour(text: str, clauses: list[str]) -> None:
    assert split_clauses(text) == clauses


@given(st.text() | PUNCTUATED)
def test_clauses_together_are_the_text_without_white_space(text: str) -> None:
    assert "".join("".join(split_clauses(text)).split()) == "".join(text.split())


@given(st.text() | PUNCTUATED)
@example(" \n")
def test_no_clause_is_empty(text: str) -> None:
    assert all(clause.strip() for clause in split_clauses(text))


@given(PUNCTUATED)
def test_a_clause_is_split_no_further(text: str) -> None:
    assert [split_clauses(clause) for clause in split_clauses(text)] == [[c] for c in split_clauses(text)]


@pytest.mark.parametrize("unit", ["a", "我", ".", "!😀", "…", "—", " - ", "Dr. ", "a. ", ".'", "•", "。"])
def test_long_texts_take_time_in_proportion(unit: str) -> None:
    """A quadratic search would take minutes; 3 s leave room for a machine that stalls."""
    text = unit * (100_000 // len(unit)) + "x"
    start = time.process_time()
    split_clauses(text)
    assert time.process_time() - start < 3
