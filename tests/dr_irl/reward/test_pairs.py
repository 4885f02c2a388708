"""Which answers each demonstration is compared with."""

import pytest
import torch

from dr_irl.categories import BENIGN
from dr_irl.records import Example
from dr_irl.reward.pairs import preference_rows
from dr_irl.reward.train import PreferenceRow


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


EXAMPLES = [example(f"i{n}", "insult") for n in range(4)]
EXAMPLES += [example(f"p{n}", "physical_harm") for n in range(3)]
EXAMPLES += [example(f"b{n}", BENIGN) for n in range(5)]
COMPLETIONS = {e.id: [f"completion {e.id}.{k}" for k in range(2)] for e in EXAMPLES}


def rows(
    category: str, *, contrast: int = 1, limit: int = 100, seed: int = 0, own_answers: bool = False
) -> list[PreferenceRow]:
    return preference_rows(
        EXAMPLES,
        category,
        COMPLETIONS,
        contrast=contrast,
        limit=limit,
        own_answers=own_answers,
        generator=torch.Generator().manual_seed(seed),
    )


def test_only_the_own_category_demonstrates() -> None:
    assert [row.prompt for row in rows("insult")] == [f"prompt i{n}" for n in range(4)]


def test_demonstration_is_the_response_to_the_prompt() -> None:
    assert all(row.demonstration == row.prompt.replace("prompt", "response") for row in rows("insult"))


def test_negatives_begin_with_the_completions_of_the_prompt() -> None:
    assert [row.negatives[:2] for row in rows("physical_harm")] == [
        (f"completion p{n}.0", f"completion p{n}.1") for n in range(3)
    ]


def test_harm_models_must_not_like_ordinary_answers() -> None:
    contrasts = {text for row in rows("insult", contrast=5) for text in row.negatives[2:]}
    assert contrasts == {f"response b{n}" for n in range(5)}


def test_benign_model_must_not_like_answers_to_harmful_prompts() -> None:
    contrasts = {text for row in rows(BENIGN, contrast=7) for text in row.negatives[2:]}
    assert contrasts == {e.response for e in EXAMPLES if e.category != BENIGN}


@pytest.mark.parametrize("contrast", [0, 1, 3])
def test_every_row_has_the_same_number_of_negatives(contrast: int) -> None:
    assert {len(row.negatives) for row in rows("insult", contrast=contrast)} == {2 + contrast}


def test_contrasts_of_a_row_are_distinct() -> None:
    assert all(len(set(row.negatives)) == 6 for row in rows("insult", contrast=4))


def test_rows_are_limited() -> None:
    assert len(rows("insult", limit=2)) == 2


def test_same_seed_draws_the_same_rows() -> None:
    assert rows("insult", limit=2, seed=5) == rows("insult", limit=2, seed=5)


def test_own_answers_demonstrate_against_refusals_only() -> None:
    for row in rows(BENIGN, own_answers=True):
        assert row.demonstration == f"completion {row.prompt.removeprefix('prompt ')}.0"
        assert len(row.negatives) == 3
        assert all(negative.startswith(("response i", "response p")) for negative in row.negatives)


def test_own_answers_change_no_harm_category() -> None:
    assert rows("insult", own_answers=True) == rows("insult")


def test_prompts_without_completions_demonstrate_nothing() -> None:
    some = {name: texts for name, texts in COMPLETIONS.items() if name in ("i0", "i2")}
    found = preference_rows(
        EXAMPLES, "insult", some, contrast=1, limit=9, own_answers=False, generator=torch.Generator().manual_seed(0)
    )
    assert [row.prompt for row in found] == ["prompt i0", "prompt i2"]
