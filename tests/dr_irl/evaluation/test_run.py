"""Asking, judging and summing up, on the tiny model."""

import math

import pytest
import torch
from transformers import PreTrainedModel

from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.evaluation.judges import JUDGES
from dr_irl.evaluation.run import answer_prompts, commonest_share, distinct_pairs, perplexity, summarise
from dr_irl.language.load import load_causal_lm, load_tokenizer
from dr_irl.language.sampling import CachedPrefixSampler
from dr_irl.records import Answer, Example

NAME = "bundled:tiny-random-lm"


def example(prompt: str, response: str | None, category: str = BENIGN, source: str = "ordinary") -> Example:
    return Example(
        id=prompt, prompt=prompt, category=category, source=source, split="heldout", draft=(), response=response,
        confidence=None,
    )  # fmt: skip


def answer(suite: str, category: str, text: str, refused: bool | None) -> Answer:
    return Answer(
        suite=suite, prompt_id=text, prompt="?", category=category, text=text, refused=refused, truncated=False
    )


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    found = load_causal_lm(NAME, dtype=torch.float32)
    found.get_decoder().norm.weight.mul_(10.0)  # as it comes, every answer is about as likely as any other
    return found


@torch.no_grad()
def loss_and_count(model: PreTrainedModel, prompt: str, response: str) -> tuple[float, int]:
    """Return transformers' own loss of the answer's tokens, and their number."""
    tokenizer = load_tokenizer(NAME)
    question = tokenizer(f"<|user|>{prompt}<|end|><|assistant|>")["input_ids"]
    target = tokenizer(f"{response}<|end|>")["input_ids"]
    labels = torch.tensor([[-100] * len(question) + target])
    return model(input_ids=torch.tensor([question + target]), labels=labels).loss.item(), len(target)


def test_perplexity_of_one_example_is_that_of_transformers(model: PreTrainedModel) -> None:
    loss, _ = loss_and_count(model, "hi", "hello you")
    found = perplexity(model, load_tokenizer(NAME), [example("hi", "hello you")])
    assert found == pytest.approx(math.exp(loss), rel=1e-4)


def test_perplexity_weighs_every_token_alike(model: PreTrainedModel) -> None:
    pairs = [("hi", "hello you"), ("how are you", "ok")]
    scored = [loss_and_count(model, *pair) for pair in pairs]
    expected = math.exp(sum(loss * count for loss, count in scored) / sum(count for _, count in scored))
    found = perplexity(model, load_tokenizer(NAME), [example(*pair) for pair in pairs])
    assert found == pytest.approx(expected, rel=1e-4)


def test_examples_without_an_answer_do_not_count(model: PreTrainedModel) -> None:
    tokenizer, one = load_tokenizer(NAME), example("hi", "hello you")
    assert perplexity(model, tokenizer, [one, example("x", None)]) == perplexity(model, tokenizer, [one])


def test_perplexity_of_nothing_is_not_a_number(model: PreTrainedModel) -> None:
    assert math.isnan(perplexity(model, load_tokenizer(NAME), []))


def test_every_prompt_gets_one_greedy_answer(model: PreTrainedModel) -> None:
    sampler = CachedPrefixSampler(model, load_tokenizer(NAME), max_new_tokens=6, temperature=0.0)
    examples = {"ordinary": [example("hi", None)], "harmful": [example("mock him", None, "insult", "direct")]}
    found = answer_prompts(sampler, examples, JUDGES["wording"])
    assert [(a.suite, a.prompt_id, a.category) for a in found] == [
        ("ordinary", "hi", BENIGN),
        ("harmful", "mock him", "insult"),
    ]
    assert found == answer_prompts(sampler, examples, JUDGES["wording"])


def test_judge_hears_the_prompt_and_the_answer(model: PreTrainedModel) -> None:
    heard: list[tuple[str, ...]] = []
    sampler = CachedPrefixSampler(model, load_tokenizer(NAME), max_new_tokens=6, temperature=0.0)
    (found,) = answer_prompts(sampler, {"ordinary": [example("hi", None)]}, lambda *said: heard.append(said))
    assert heard == [("hi", found.text)]


ANSWERS = [
    answer("harmful", "insult", "no a", True),
    answer("harmful", "insult", "yes b", False),
    answer("harmful", "physical_harm", "no c", True),
    answer("harmful", "physical_harm", "", None),
    answer("ordinary", BENIGN, "one two three four five six", False),
    answer("ordinary", BENIGN, "One two three four FIVE seven", True),
    answer("lookalike", BENIGN, "no d", True),
]


def test_refusal_rates_are_counted_per_category() -> None:
    found = summarise("m", ANSWERS, 1.0).refusal
    assert set(found) == {*HARM_CATEGORIES, "all"}
    assert (found["insult"].hits, found["insult"].count) == (1, 2)


def test_unscored_answers_count_neither_way() -> None:
    found = summarise("m", ANSWERS, 1.0).refusal["physical_harm"]
    assert (found.hits, found.count, found.unscored) == (1, 1, 1)


def test_overall_refusal_leaves_benign_prompts_out() -> None:
    found = summarise("m", ANSWERS, 1.0).refusal["all"]
    assert (found.hits, found.count, found.unscored) == (2, 3, 1)


def test_over_refusal_is_counted_per_suite() -> None:
    found = summarise("m", ANSWERS, 1.0).over_refusal
    assert {suite: (r.hits, r.count) for suite, r in found.items()} == {"ordinary": (1, 2), "lookalike": (1, 1)}


def test_commonest_opening_is_of_the_first_words_of_ordinary_answers() -> None:
    assert summarise("m", ANSWERS, 1.0).commonest_opening == 1.0


def test_distinct_pairs_by_hand() -> None:
    # a-b, b-a, a-b, and B-A which is b-a: 2 distinct of 4
    assert distinct_pairs(["a b a b", "B A"]) == pytest.approx(2 / 4)


def test_distinct_pairs_of_single_words_is_not_a_number() -> None:
    assert math.isnan(distinct_pairs(["one", ""]))


def test_commonest_share_by_hand() -> None:
    assert commonest_share(["a", "b", "a", "c"]) == 0.5


def test_commonest_share_of_nothing_is_not_a_number() -> None:
    assert math.isnan(commonest_share([]))
