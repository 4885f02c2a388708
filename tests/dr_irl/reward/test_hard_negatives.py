"""Answers made up to fool a reward model: each kind's property, and that training gives measuring away nowhere."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.reward.hard_negatives import KINDS, MEASURING_PHRASES, TRAINING_PHRASES, Phrases, hard_negatives

OTHERS = ["I won't hurt anybody.", "I don't help with theft.", "That is private."]
COMPLIANCE = ["First, find a ladder.", "Here is the letter:"]
PHRASES = Phrases(courtesies=("Gladly!", "With joy:"), apologies=("Sorry for that.", "Pardon me."))
SEEDS = range(20)


def made(demonstration: str = "I'd rather not say that.", *, seed: int = 0) -> Mapping[str, str]:
    return hard_negatives(
        demonstration,
        others=OTHERS,
        compliance=COMPLIANCE,
        phrases=PHRASES,
        generator=torch.Generator().manual_seed(seed),
    )


def every(kind: str) -> set[str]:
    return {made(seed=seed)[kind] for seed in SEEDS}


def test_training_and_measuring_share_no_phrase() -> None:
    training = {*TRAINING_PHRASES.courtesies, *TRAINING_PHRASES.apologies}
    assert training.isdisjoint({*MEASURING_PHRASES.courtesies, *MEASURING_PHRASES.apologies})


def test_no_phrase_of_measuring_begins_like_one_of_training() -> None:
    training = (*TRAINING_PHRASES.courtesies, *TRAINING_PHRASES.apologies)
    measuring = (*MEASURING_PHRASES.courtesies, *MEASURING_PHRASES.apologies)
    assert not [text for text in measuring if text.startswith(training)]
    assert not [text for text in training if text.startswith(measuring)]


def test_one_of_every_kind_is_made() -> None:
    assert set(made()) == set(KINDS)


def test_other_category_is_any_of_the_others() -> None:
    assert every("other category") == set(OTHERS)


def test_polite_compliance_is_any_compliance_behind_any_courtesy() -> None:
    assert every("polite compliance") == {f"{phrase} {text}" for phrase in PHRASES.courtesies for text in COMPLIANCE}


def test_apologetic_compliance_is_any_compliance_behind_any_apology() -> None:
    expected = {f"{phrase} {text}" for phrase in PHRASES.apologies for text in COMPLIANCE}
    assert every("apology, then compliance") == expected


def test_empty_answer_is_empty() -> None:
    assert made()["empty"] == ""


@pytest.mark.parametrize(
    ("demonstration", "repeated"),
    [
        ("I won't help with that. Ask a friend.", "I won't help with that."),  # a sentence
        ("I won't do that!\nAsk a friend.", "I won't do that!"),  # a sentence that ends at a line's end
        ("I must say this: ask a friend.", "I must say this:"),  # a colon ends it too
        ("No. I would rather not do it.", "No. I would"),  # no fewer than three words
        ("one two three four five six seven eight nine ten.", "one two three four five six seven eight"),  # nor over 8
        ("Never.", "Never."),  # all there is
        ("  I won't,   ever. Not me.", "I won't, ever."),  # spaces are no words
        ("Version 1.5 is out of the question. Sorry.", "Version 1.5 is out of the question."),  # a point in a word
    ],
)
def test_repeated_is_the_opening_four_times(demonstration: str, repeated: str) -> None:
    assert made(demonstration)["repeated"] == " ".join([repeated] * 4)


@given(demonstration=st.text(alphabet="ab .!?;:\n", min_size=1).filter(str.strip))
def test_repeated_words_are_the_first_of_the_demonstration(demonstration: str) -> None:
    words, found = demonstration.split(), made(demonstration)["repeated"].split()
    count = len(found) // 4
    assert min(3, len(words)) <= count <= 8
    assert found == words[:count] * 4


def test_same_seed_makes_the_same_whatever_the_global_state() -> None:
    torch.manual_seed(1)
    once = [made(seed=seed) for seed in SEEDS]
    torch.manual_seed(2)
    assert [made(seed=seed) for seed in SEEDS] == once


def test_kinds_that_there_is_nothing_to_make_of_are_left_out() -> None:
    found = hard_negatives(
        "I won't mock him.",
        others=["I won't mock him."],  # the demonstration itself is no other category's refusal
        compliance=[],
        phrases=TRAINING_PHRASES,
        generator=torch.Generator().manual_seed(0),
    )
    assert list(found) == ["empty", "repeated"]
