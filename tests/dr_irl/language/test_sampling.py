"""The decode loop against transformers' own `generate`, and against the model's own probabilities."""

from collections import Counter

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.language.chat import end_ids, prompt_ids
from dr_irl.language.load import load_causal_lm, load_tokenizer
from dr_irl.language.sampling import CachedPrefixSampler, Sample, Sampler

PROMPTS = ["hello", "a", "What is the capital of France?", "tell me more", "x y z", "why? " * 9, "", "0123456789"]
LIMIT = 24


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    """The tiny model with ten times its weights: its choices are clear, and differ from prompt to prompt."""
    sharp = load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32)
    with torch.no_grad():
        for parameter in sharp.parameters():
            if parameter.dim() == 2:
                parameter.mul_(10)
    return sharp


def plain_generate(model: PreTrainedModel, ids: list[int], end: int) -> tuple[int, ...]:
    """Complete one prompt alone, without padding, by transformers' own greedy search."""
    found = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=LIMIT, eos_token_id=end, pad_token_id=0)
    return tuple(found[0, len(ids) :].tolist())


@pytest.fixture(scope="module")
def tokenizer(model: PreTrainedModel) -> PreTrainedTokenizerBase:
    """A tokenizer whose end token is one that this model says soon after some of the prompts."""
    plain = load_tokenizer("bundled:tiny-random-lm")
    said = [plain_generate(model, ids, end=-1) for ids in prompt_ids(plain, PROMPTS)]
    spread = {token: {row.index(token) for row in said if token in row} for row in said for token in row}
    end = max(sorted(spread), key=lambda token: len(spread[token]))
    assert len(spread[end]) >= 3, "rows must end at different steps, or this tests little"
    plain.eos_token = plain.convert_ids_to_tokens(end)
    return plain


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    *,
    per_prompt: int = 1,
    seed: int = 0,
    **options: float,
) -> list[list[Sample]]:
    sampler = CachedPrefixSampler(model, tokenizer, **({"max_new_tokens": LIMIT} | options))
    return sampler.sample(prompts, per_prompt=per_prompt, generator=torch.Generator().manual_seed(seed))


def test_the_cached_prefix_sampler_is_a_sampler(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    assert isinstance(CachedPrefixSampler(model, tokenizer, max_new_tokens=1), Sampler)


def test_greedy_answers_are_those_of_generate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    expected = [plain_generate(model, ids, tokenizer.eos_token_id) for ids in prompt_ids(tokenizer, PROMPTS)]
    assert [row.token_ids for [row] in sample(model, tokenizer, PROMPTS, temperature=0.0)] == expected


def test_greedy_answers_follow_their_prompts_when_these_change_places(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    order = [3, 0, 7, 5, 1, 6, 2, 4]
    turned = sample(model, tokenizer, [PROMPTS[i] for i in order], temperature=0.0)
    plain = sample(model, tokenizer, PROMPTS, temperature=0.0)
    assert turned == [plain[i] for i in order]


def test_greedy_completions_of_one_prompt_are_alike(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    [rows] = sample(model, tokenizer, ["hello"], per_prompt=3, temperature=0.0)
    assert rows == [rows[0]] * 3


@pytest.mark.parametrize("rows_at_once", [1, 3, 7, 100])
def test_batching_changes_no_sample(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows_at_once: int
) -> None:
    whole = sample(model, tokenizer, PROMPTS, per_prompt=3, rows_at_once=24)
    assert sample(model, tokenizer, PROMPTS, per_prompt=3, rows_at_once=rows_at_once) == whole


def test_another_seed_gives_other_samples(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    assert sample(model, tokenizer, PROMPTS, seed=1) != sample(model, tokenizer, PROMPTS, seed=2)


def test_every_prompt_gets_as_many_completions_as_asked(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert [len(rows) for rows in sample(model, tokenizer, PROMPTS, per_prompt=5)] == [5] * len(PROMPTS)


def test_no_prompts_give_no_samples(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    assert sample(model, tokenizer, []) == []


@pytest.fixture(scope="module")
def many(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Sample]:
    """Samples of which some end by themselves and some at the limit."""
    rows = [row for rows in sample(model, tokenizer, PROMPTS, per_prompt=10, temperature=2.0) for row in rows]
    assert {row.truncated for row in rows} == {True, False}
    return rows


def test_a_finished_sample_has_its_end_token_last_and_nowhere_else(
    many: list[Sample], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    known = end_ids(tokenizer, model.generation_config.eos_token_id)
    ends = [[at for at, token in enumerate(row.token_ids, 1) if token in known] for row in many]
    assert ends == [[] if row.truncated else [len(row.token_ids)] for row in many]


def test_a_truncated_sample_is_as_long_as_the_limit(many: list[Sample]) -> None:
    assert {len(row.token_ids) for row in many if row.truncated} == {LIMIT}


def test_an_end_token_at_the_limit_is_no_truncation(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [row for [row] in sample(model, tokenizer, PROMPTS, temperature=0.0)]
    prompt, whole = next((p, row) for p, row in zip(PROMPTS, rows, strict=True) if not row.truncated)
    assert sample(model, tokenizer, [prompt], temperature=0.0, max_new_tokens=len(whole.token_ids)) == [[whole]]


def test_the_text_of_a_sample_has_no_special_tokens(many: list[Sample]) -> None:
    assert [row.text for row in many if "<|" in row.text] == []


def test_every_batch_reports_its_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    heard: list[int] = []
    sampler = CachedPrefixSampler(model, tokenizer, max_new_tokens=LIMIT, rows_at_once=4, report=heard.append)
    rows = sampler.sample(PROMPTS, per_prompt=2, generator=torch.Generator().manual_seed(0))
    assert (len(heard), sum(heard)) == (4, sum(len(row.token_ids) for pair in rows for row in pair))


def test_sampling_leaves_the_global_generator_alone(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    before = torch.random.get_rng_state()
    sample(model, tokenizer, ["hello"])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_first_tokens_are_as_frequent_as_the_model_says(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, temperature: float
) -> None:
    draws = 20_000
    [rows] = sample(
        model, tokenizer, ["hello"], per_prompt=draws, max_new_tokens=1, temperature=temperature, rows_at_once=draws
    )
    seen = Counter(row.token_ids[0] for row in rows)
    with torch.no_grad():
        logits = model(torch.tensor(prompt_ids(tokenizer, ["hello"]))).logits[0, -1].double()
    expected = ((logits / temperature).softmax(dim=0) * draws).tolist()
    common = [token for token, count in enumerate(expected) if count >= 5]  # chi-square needs 5 expected per cell
    rest = (draws - sum(seen[t] for t in common), draws - sum(expected[t] for t in common))
    cells = [(seen[t], expected[t]) for t in common] + [rest]
    statistic = sum((count - mean) ** 2 / max(mean, 1e-9) for count, mean in cells)
    freedom = len(cells) - 1
    # mean `freedom`, variance 2 x freedom; the seed is fixed, so the test never flickers
    assert freedom > 5 and abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


def test_an_answer_stops_at_every_token_that_generate_stops_at(model: PreTrainedModel) -> None:
    """The model's own settings name another end than the tokenizer does."""
    tokenizer = load_tokenizer("bundled:tiny-random-lm")
    sampler = CachedPrefixSampler(model, tokenizer, max_new_tokens=LIMIT, temperature=0.0)
    [[whole]] = sampler.sample(["tell me more"], per_prompt=1, generator=torch.Generator())
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [before, whole.token_ids[2]]
    try:
        stopping = CachedPrefixSampler(model, tokenizer, max_new_tokens=LIMIT, temperature=0.0)
        [[cut]] = stopping.sample(["tell me more"], per_prompt=1, generator=torch.Generator())
    finally:
        model.generation_config.eos_token_id = before
    first = whole.token_ids.index(whole.token_ids[2]) + 1
    assert (cut.token_ids, cut.truncated) == (whole.token_ids[:first], False)


@pytest.mark.parametrize(("text", "answer"), [("<think>hm</think>No.", "No."), ("<think>hm", ""), ("No.", "No.")])
def test_a_sample_keeps_what_was_said_and_knows_its_answer(text: str, answer: str) -> None:
    sampled = Sample((1,), text, truncated=False)
    assert (sampled.text, sampled.answer) == (text, answer)
