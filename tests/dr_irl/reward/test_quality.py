"""Which held-out pairs are scored, under which reward models."""

from collections.abc import Callable, Sequence

import pytest
import torch

from dr_irl.categories import BENIGN, SINGLE
from dr_irl.records import Example, RewardReading
from dr_irl.reward.hard_negatives import COMPLETION, KINDS, MEASURING_PHRASES, TRAINING_PHRASES
from dr_irl.reward.panel import RewardPanel
from dr_irl.reward.quality import Pair, measured_pairs, read_rewards

SEEDS = range(10)
COMPLIANT_KINDS = ("polite compliance", "apology, then compliance")


def example(name: str, category: str) -> Example:
    return Example(
        id=name,
        prompt=f"prompt {name}",
        category=category,
        source="heldout",
        split="heldout",
        draft=(),
        response=f"response {name}",
        confidence=None,
    )


EXAMPLES = [example(f"i{n}", "insult") for n in range(3)]
EXAMPLES += [example(f"p{n}", "physical_harm") for n in range(2)]
EXAMPLES += [example(f"b{n}", BENIGN) for n in range(7)]  # more than harmful ones: refusals are used again
COMPLETIONS = {e.id: [f"completion {e.id}.{k}" for k in range(2)] for e in EXAMPLES}
ORDINARY = {f"response b{n}" for n in range(7)}


def all_comply(prompt: str, text: str) -> bool:
    return False


def pairs(
    *,
    seed: int = 0,
    examples: Sequence[Example] = EXAMPLES,
    refuses: Callable[[str, str], bool | None] = all_comply,
) -> list[Pair]:
    generator = torch.Generator().manual_seed(seed)
    return measured_pairs(examples, COMPLETIONS, refuses=refuses, generator=generator)


def drawn(category: str, kinds: Sequence[str], **options: object) -> set[str]:
    """All answers of some kinds that a category is paired with, under several seeds."""
    found = [pair for seed in SEEDS for pair in pairs(seed=seed, **options)]
    return {pair.other for pair in found if pair.category == category and pair.kind in kinds}


def complied(texts: set[str]) -> set[str]:
    """What is left without the phrase in front."""
    phrases = (*MEASURING_PHRASES.courtesies, *MEASURING_PHRASES.apologies)
    return {text.removeprefix(phrase).strip() for text in texts for phrase in phrases if text.startswith(phrase)}


def test_pair_carries_its_prompt_and_demonstration() -> None:
    found = {(pair.prompt_id, pair.category, pair.prompt, pair.demonstration) for pair in pairs()}
    assert found == {(e.id, e.category, e.prompt, e.response) for e in EXAMPLES}


def test_harmful_prompts_are_paired_with_their_first_completion() -> None:
    found = {pair.prompt_id: pair.other for pair in pairs() if pair.kind == COMPLETION and pair.category != BENIGN}
    assert found == {name: f"completion {name}.0" for name in ("i0", "i1", "i2", "p0", "p1")}


def test_ordinary_prompts_are_paired_with_refusals_in_turn() -> None:
    found = [pair.other for pair in pairs() if pair.category == BENIGN]
    assert found == [f"response {name}" for name in ("i0", "i1", "i2", "p0", "p1", "i0", "i1")]


def test_harmful_prompts_have_one_pair_of_every_kind() -> None:
    for name in ("i0", "i1", "i2", "p0", "p1"):
        assert sorted(pair.kind for pair in pairs() if pair.prompt_id == name) == sorted([COMPLETION, *KINDS])


def test_ordinary_prompts_have_no_hard_negatives() -> None:
    assert [pair.kind for pair in pairs() if pair.category == BENIGN] == [COMPLETION] * 7


@pytest.mark.parametrize(("category", "others"), [("insult", "pp"), ("physical_harm", "iii")])
def test_refusals_of_another_category_come_from_harm_categories(category: str, others: str) -> None:
    expected = {f"response {letter}{n}" for n, letter in enumerate(others)}
    assert drawn(category, ["other category"]) == expected


def test_ordinary_answers_stand_in_where_there_is_no_other_harm_category() -> None:
    alone = [e for e in EXAMPLES if e.category != "physical_harm"]
    assert drawn("insult", ["other category"], examples=alone) <= ORDINARY


@pytest.mark.parametrize(("category", "names"), [("insult", ["i0", "i1", "i2"]), ("physical_harm", ["p0", "p1"])])
def test_compliance_comes_from_prompts_of_the_own_category(category: str, names: list[str]) -> None:
    assert complied(drawn(category, COMPLIANT_KINDS)) == {f"completion {name}.0" for name in names}


@pytest.mark.parametrize("verdict", [True, None])
def test_refusals_and_unclear_answers_are_no_compliance(verdict: bool | None) -> None:
    found = drawn("insult", COMPLIANT_KINDS, refuses=lambda _, text: verdict if "i1" in text else False)
    assert complied(found) == {"completion i0.0", "completion i2.0"}


def test_ordinary_answers_comply_where_every_completion_refuses() -> None:
    assert complied(drawn("insult", COMPLIANT_KINDS, refuses=lambda *_: True)) == ORDINARY


def test_every_compliant_answer_has_a_phrase_of_measuring_in_front() -> None:
    phrases = (*MEASURING_PHRASES.courtesies, *MEASURING_PHRASES.apologies)
    assert all(text.startswith(phrases) for text in drawn("insult", COMPLIANT_KINDS))


def test_no_phrase_that_training_uses_is_measured_with() -> None:
    phrases = (*TRAINING_PHRASES.courtesies, *TRAINING_PHRASES.apologies)
    assert not [text for text in drawn("insult", KINDS) if text.startswith(phrases)]


def test_same_seed_makes_the_same_pairs_whatever_the_global_state() -> None:
    torch.manual_seed(1)
    once = pairs(seed=4)
    torch.manual_seed(2)
    assert pairs(seed=4) == once


class FakePanel(RewardPanel):
    """Rewards an answer with its number of characters, and with a thousand for every place of the model in the panel.

    So a reward says which model gave it, and to which answer. Like the real one, it knows no other models than its own.
    It counts words as tokens, so that tokens are no rewards.
    """

    def __init__(self, *categories: str) -> None:
        self._places = {name: place for place, name in enumerate(categories)}

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(self._places)

    def cross_score(self, prompts: Sequence[str], responses: Sequence[str]) -> dict[str, torch.Tensor]:
        lengths = torch.tensor([float(len(answer)) for answer in responses])
        return {model: 1000.0 * place + lengths for model, place in self._places.items()}

    def scored_tokens(self, responses: Sequence[str]) -> list[int]:
        return [len(answer.split()) for answer in responses]


SCORED = [
    Pair("i0", "insult", COMPLETION, "mock him", "no", "he is a fool"),
    Pair("p0", "physical_harm", COMPLETION, "hurt him", "never ever", "sure"),
    Pair("b0", BENIGN, COMPLETION, "bake bread", "take some flour", "I won't do that"),
    Pair("i0", "insult", "empty", "mock him", "no", ""),
    Pair("p0", "physical_harm", "repeated", "hurt him", "never ever", "never never never"),
]
SEVEN = ("insult", "physical_harm", BENIGN)


def starts_with_no(prompt: str, text: str) -> bool | None:
    return text.startswith("no") if text else None


def read(*categories: str) -> list[RewardReading]:
    return read_rewards(FakePanel(*categories), SCORED, refuses=starts_with_no)


def models_by_pair(readings: Sequence[RewardReading]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for row in readings:
        found.setdefault((row.prompt_id, row.kind), []).append(row.model)
    return {pair: sorted(models) for pair, models in found.items()}


def test_completions_are_read_by_every_model_and_hard_negatives_by_their_own() -> None:
    everyone = sorted(SEVEN)
    assert models_by_pair(read(*SEVEN)) == {
        ("i0", COMPLETION): everyone,
        ("p0", COMPLETION): everyone,
        ("b0", COMPLETION): everyone,
        ("i0", "empty"): ["insult"],
        ("p0", "repeated"): ["physical_harm"],
    }


def test_single_model_reads_everything() -> None:
    found = models_by_pair(read(*SEVEN, SINGLE))
    assert {pair for pair, models in found.items() if models.count(SINGLE) == 1} == set(found)


def test_single_model_changes_no_other_reading() -> None:
    assert [row for row in read(*SEVEN, SINGLE) if row.model != SINGLE] == read(*SEVEN)


@pytest.mark.parametrize("model", [*SEVEN, SINGLE])
def test_reading_has_the_rewards_of_its_own_model_and_answers(model: str) -> None:
    place = [*SEVEN, SINGLE].index(model)
    texts = {(pair.prompt_id, pair.kind): (pair.demonstration, pair.other) for pair in SCORED}
    for row in (row for row in read(*SEVEN, SINGLE) if row.model == model):
        demonstration, other = texts[row.prompt_id, row.kind]
        assert (row.demonstration_reward, row.other_reward) == (
            1000.0 * place + len(demonstration),
            1000.0 * place + len(other),
        )


def test_reading_has_the_scored_tokens_of_its_own_answers() -> None:
    found = {(r.prompt_id, r.kind, r.demonstration_tokens, r.other_tokens) for r in read(*SEVEN, SINGLE)}
    assert found == {
        ("i0", COMPLETION, 1, 4),
        ("p0", COMPLETION, 2, 1),
        ("b0", COMPLETION, 3, 4),
        ("i0", "empty", 1, 0),
        ("p0", "repeated", 2, 3),
    }


def test_reading_says_of_both_answers_whether_they_refuse() -> None:
    found = {(r.prompt_id, r.kind, r.demonstration_refuses, r.other_refuses) for r in read(*SEVEN, SINGLE)}
    assert found == {
        ("i0", COMPLETION, True, False),
        ("p0", COMPLETION, False, False),
        ("b0", COMPLETION, False, False),
        ("i0", "empty", True, None),
        ("p0", "repeated", False, False),
    }


def test_reading_has_the_category_of_its_prompt() -> None:
    categories = {pair.prompt_id: pair.category for pair in SCORED}
    assert all(row.category == categories[row.prompt_id] for row in read(*SEVEN, SINGLE))


def test_hard_negatives_of_a_category_without_a_model_are_read_by_the_single_one_alone() -> None:
    found = [row.model for row in read("insult", SINGLE) if row.category == "physical_harm" and row.kind != COMPLETION]
    assert found == [SINGLE]
