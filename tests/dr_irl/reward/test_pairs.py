"""Which answers each demonstration is compared with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch

from dr_irl.categories import BENIGN
from dr_irl.errors import DataError
from dr_irl.records import Example
from dr_irl.reward.hard_negatives import MEASURING_PHRASES, TRAINING_PHRASES
from dr_irl.reward.options import RewardOptions
from dr_irl.reward.pairs import PreferenceRow, preference_rows, without_equals

SEEDS = range(5)
options = partial(RewardOptions, depth=1, adapted_layers=1, learning_rate=1.0, epochs=1)


def example(name: str, category: str) -> Example:
    return Example(
        id=name,
        prompt=f"prompt {name}",
        category=category,
        source="direct",
        split="train",
        draft=(),
        response=f"response {name}",
        confidence=None,
    )


EXAMPLES = [example(f"i{n}", "insult") for n in range(6)]
EXAMPLES += [example(f"p{n}", "physical_harm") for n in range(3)]
EXAMPLES += [example(f"b{n}", BENIGN) for n in range(5)]
COMPLETIONS = {e.id: [f"completion {e.id}.{k}" for k in range(2)] for e in EXAMPLES}
ORDINARY = {f"response b{n}" for n in range(5)}


def all_comply(prompt: str, text: str) -> bool:
    return False


def rows(
    category: str,
    *,
    seed: int = 0,
    examples: Sequence[Example] = EXAMPLES,
    refuses: Callable[[str, str], bool | None] = all_comply,
    completions: Mapping[str, Sequence[str]] = COMPLETIONS,
    **chosen: object,
) -> list[PreferenceRow]:
    return preference_rows(
        examples,
        category,
        completions,
        options(**chosen),
        refuses=refuses,
        generator=torch.Generator().manual_seed(seed),
    )


def kind(text: str) -> str:
    """Tell a hard negative's kind by what these tests put into it."""
    if not text:
        return "empty"
    for name, phrases in (("polite", TRAINING_PHRASES.courtesies), ("apology", TRAINING_PHRASES.apologies)):
        if text.startswith(tuple(phrases)):
            return name
    return "repeated" if text.count("response") > 1 else "other category"


def hard_negatives(kinds: Sequence[str], **options: object) -> list[str]:
    """All hard negatives of some kinds that insults get, under several seeds."""
    found = [
        row for seed in SEEDS for row in rows("insult", contrast_negatives=0, hard_negatives=5, seed=seed, **options)
    ]
    return [text for row in found for text in row.contrasts if kind(text) in kinds]


def complied(texts: Sequence[str]) -> set[str]:
    """What is left of polite compliance, or compliance after an apology, without its phrase."""
    phrases = (*TRAINING_PHRASES.courtesies, *TRAINING_PHRASES.apologies)
    return {text.removeprefix(phrase).strip() for text in texts for phrase in phrases if text.startswith(phrase)}


def test_only_the_own_category_demonstrates() -> None:
    assert [row.prompt for row in rows("insult")] == [f"prompt i{n}" for n in range(6)]


def test_demonstration_is_the_response_to_the_prompt() -> None:
    assert all(row.demonstration == row.prompt.replace("prompt", "response") for row in rows("insult"))


def test_completions_are_those_of_the_prompt() -> None:
    assert [row.completions for row in rows("physical_harm")] == [
        (f"completion p{n}.0", f"completion p{n}.1") for n in range(3)
    ]


def test_harm_models_must_not_like_ordinary_answers() -> None:
    assert {text for row in rows("insult", contrast_negatives=5) for text in row.contrasts} == ORDINARY


def test_benign_model_must_not_like_answers_to_harmful_prompts() -> None:
    contrasts = {text for row in rows(BENIGN, contrast_negatives=9) for text in row.contrasts}
    assert contrasts == {e.response for e in EXAMPLES if e.category != BENIGN}


@pytest.mark.parametrize("hard", [0, 1, 5])
@pytest.mark.parametrize("contrast", [0, 1, 3])
def test_every_row_has_the_same_number_of_contrasts(contrast: int, hard: int) -> None:
    assert {len(row.contrasts) for row in rows("insult", contrast_negatives=contrast, hard_negatives=hard)} == {
        contrast + hard
    }


def test_contrasts_of_a_row_are_distinct() -> None:
    assert all(len(set(row.contrasts)) == 4 for row in rows("insult", contrast_negatives=4))


def test_rows_are_limited() -> None:
    assert len(rows("insult", max_rows=4)) == 4


def test_limited_rows_are_drawn_from_all() -> None:
    assert {row.prompt for seed in range(20) for row in rows("insult", max_rows=4, seed=seed)} == {
        f"prompt i{n}" for n in range(6)
    }


def test_same_seed_draws_the_same_rows_whatever_the_global_state() -> None:
    torch.manual_seed(1)
    once = rows("insult", contrast_negatives=2, hard_negatives=3, max_rows=4, seed=5)
    torch.manual_seed(2)
    assert rows("insult", contrast_negatives=2, hard_negatives=3, max_rows=4, seed=5) == once


def test_own_answers_demonstrate_in_the_place_of_the_source_answers() -> None:
    assert [row.demonstration for row in rows(BENIGN, benign_answers="own")] == [f"completion b{n}.0" for n in range(5)]


def test_own_answers_are_compared_with_refusals_only() -> None:
    for row in rows(BENIGN, benign_answers="own"):
        assert row.completions == ()
        assert all(text.startswith(("response i", "response p")) for text in row.contrasts)


def test_own_answers_have_as_many_to_beat_as_any_demonstration() -> None:
    # one contrast, and one more for each of the two completions
    assert {len(row.contrasts) for row in rows(BENIGN, benign_answers="own")} == {3}


def test_own_answers_change_no_harm_category() -> None:
    assert rows("insult", benign_answers="own") == rows("insult")


def test_prompts_without_completions_demonstrate_nothing() -> None:
    some = {name: texts for name, texts in COMPLETIONS.items() if name in ("i0", "i2")}
    found = preference_rows(
        EXAMPLES,
        "insult",
        some,
        options(),
        refuses=all_comply,
        generator=torch.Generator().manual_seed(0),
    )
    assert [row.prompt for row in found] == ["prompt i0", "prompt i2"]


@pytest.mark.parametrize("response", ["", " \n"])
def test_empty_demonstration_is_refused(response: str) -> None:
    examples = [replace(e, response=response) if e.id == "i2" else e for e in EXAMPLES]
    with pytest.raises(DataError, match="the demonstration of prompt 'i2' is empty"):
        rows("insult", examples=examples)


def test_hard_negatives_change_nothing_else_of_a_row() -> None:
    plain, harder = rows("insult", contrast_negatives=2), rows("insult", contrast_negatives=2, hard_negatives=3)
    assert [replace(row, contrasts=row.contrasts[:2]) for row in harder] == plain


@pytest.mark.parametrize("hard", [2, 3, 5])
def test_hard_negatives_of_a_row_are_of_different_kinds(hard: int) -> None:
    for row in rows("insult", contrast_negatives=0, hard_negatives=hard):
        assert len({kind(text) for text in row.contrasts}) == hard


def test_every_kind_has_its_turn() -> None:
    found = {
        kind(text)
        for seed in SEEDS
        for row in rows("insult", contrast_negatives=0, hard_negatives=1, seed=seed)
        for text in row.contrasts
    }
    assert found == {"empty", "polite", "apology", "repeated", "other category"}


def test_benign_rows_have_no_hard_negatives() -> None:
    assert rows(BENIGN, hard_negatives=5) == rows(BENIGN)


def test_refusals_of_another_category_come_from_harm_categories() -> None:
    assert set(hard_negatives(["other category"])) == {f"response p{n}" for n in range(3)}


def test_ordinary_answers_stand_in_where_there_is_no_other_harm_category() -> None:
    alone = [e for e in EXAMPLES if e.category != "physical_harm"]
    assert set(hard_negatives(["other category"], examples=alone)) <= ORDINARY


def test_compliance_comes_from_completions_of_the_own_category() -> None:
    found = complied(hard_negatives(["polite", "apology"]))
    assert found == {text for n in range(6) for text in COMPLETIONS[f"i{n}"]}


@pytest.mark.parametrize("verdict", [True, None])
def test_refusals_and_unclear_answers_are_no_compliance(verdict: bool | None) -> None:
    found = complied(hard_negatives(["polite", "apology"], refuses=lambda _, text: verdict if ".0" in text else False))
    assert found == {f"completion i{n}.1" for n in range(6)}


def test_ordinary_answers_comply_where_every_completion_refuses() -> None:
    assert complied(hard_negatives(["polite", "apology"], refuses=lambda *_: True)) == ORDINARY


def test_rows_show_no_phrase_that_measuring_uses() -> None:
    kept_back = (*MEASURING_PHRASES.courtesies, *MEASURING_PHRASES.apologies)
    assert not [text for text in hard_negatives(["polite", "apology", "other category"]) if text.startswith(kept_back)]


def test_rows_that_compare_a_demonstration_with_itself_only_are_left_out() -> None:
    assert without_equals([PreferenceRow("prompt", "no", ("no", "no"), ("no",))]) == []


@pytest.mark.parametrize(
    "row",
    [
        PreferenceRow("prompt", "no", ("no", "yes"), ("no",)),  # one completion differs
        PreferenceRow("prompt", "no", ("no",), ("yes",)),  # the contrast differs
        PreferenceRow("prompt", "no", ("yes", "yes"), ()),  # equal to one another, not to the demonstration
    ],
)
def test_rows_with_one_other_answer_are_kept(row: PreferenceRow) -> None:
    assert without_equals([row]) == [row]


def test_own_answer_that_says_nothing_is_no_demonstration() -> None:
    silent = dict(COMPLETIONS) | {name: ["", f"completion {name}.1"] for name in COMPLETIONS}
    found = rows(BENIGN, benign_answers="own", completions=silent)
    assert found and all(row.demonstration.endswith(".1") for row in found)
    mute = {name: ["", " "] for name in COMPLETIONS}
    assert rows(BENIGN, benign_answers="own", completions=mute) == []
