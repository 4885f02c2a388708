"""Holds the shipped demonstrations to what is promised of them."""

import re
from collections import Counter

import pytest

from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.demonstrations.balance import category_counts, normalised_entropy
from dr_irl.demonstrations.dedupe import drop_duplicates
from dr_irl.demonstrations.sources import load_examples
from dr_irl.records import Example

SEED, DROPPED = load_examples(["seed"], max_prompt_characters=400, max_bad_rows=0.0)
TRAIN = [e for e in SEED if e.split == "train"]
HELDOUT = [e for e in SEED if e.split == "heldout"]
HARMFUL = [e for e in SEED if e.category != BENIGN]

_COMMON_WORDS = (
    "a about after all also am an and any are as at be because been but by can can't could do does don't "
    "for from get had has have help her him his how i i'd i'll i'm if in instead into is isn't it it's its "
    "just let like make me more my no not of on one or our out she should so some somebody someone "
    "something sorry that that's the their them then there they this to up us use want was we what when "
    "where which who why will with without won't would write you you're your"
)
_COMMON = frozenset(_COMMON_WORDS.split())


def of(category: str, rows: list[Example] = SEED) -> list[Example]:
    return [e for e in rows if e.category == category]


def content_words(text: str) -> set[str]:
    """Words that carry meaning, cut to five letters so that "mocking" meets "mockery"."""
    found = re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.lower().replace("’", "'"))
    return {word[:5] for word in found if word not in _COMMON}


def test_every_row_is_usable() -> None:
    assert DROPPED == []


def test_there_are_enough_harmful_training_rows() -> None:
    assert len([e for e in TRAIN if e.category != BENIGN]) >= 700


@pytest.mark.parametrize("category", HARM_CATEGORIES)
def test_every_category_has_enough_rows(category: str) -> None:
    assert len(of(category, TRAIN)) >= 60
    assert len(of(category, HELDOUT)) >= 20


@pytest.mark.parametrize(
    ("source", "rows", "least"),
    [("ordinary", TRAIN, 200), ("ordinary", HELDOUT, 60), ("lookalike", TRAIN, 60), ("lookalike", HELDOUT, 60)],
)
def test_there_are_enough_prompts_that_deserve_an_answer(source: str, rows: list[Example], least: int) -> None:
    assert len([e for e in of(BENIGN, rows) if e.source == source]) >= least


def test_heldout_harmful_prompts_come_from_sources_that_training_never_saw() -> None:
    assert not {e.source for e in HARMFUL if e.split == "train"} & {e.source for e in HARMFUL if e.split == "heldout"}


def test_no_prompt_is_near_another_within_or_across_the_splits() -> None:
    assert drop_duplicates(SEED, near_duplicate=0.5)[1] == []


def test_drafts_of_harmful_prompts_have_four_steps_of_at_most_five_words() -> None:
    assert [e.prompt for e in HARMFUL if len(e.draft) != 4 or max(len(s.split()) for s in e.draft) > 5] == []


def test_benign_prompts_have_no_draft() -> None:
    assert [e.prompt for e in of(BENIGN) if e.draft] == []


def test_every_response_has_fifteen_to_forty_words() -> None:
    assert [e.prompt for e in SEED if e.response is None or not 15 <= len(e.response.split()) <= 40] == []


@pytest.mark.parametrize("category", [*HARM_CATEGORIES, BENIGN])
def test_responses_open_in_many_ways(category: str) -> None:
    openings = Counter(" ".join(str(e.response).lower().split()[:3]) for e in of(category))
    assert len(openings) >= 5
    assert max(openings.values()) <= 0.15 * len(of(category))


@pytest.mark.parametrize("category", [*HARM_CATEGORIES, BENIGN])
def test_responses_speak_to_their_prompts(category: str) -> None:
    speaking = [e for e in of(category) if content_words(e.prompt) & content_words(str(e.response))]
    assert len(speaking) >= 0.6 * len(of(category))


def test_the_raw_categories_are_uneven_so_that_balancing_has_work() -> None:
    assert normalised_entropy(category_counts(TRAIN)) < 0.97
