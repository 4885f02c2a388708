"""Asks a model every prompt of the suites, judges its answers, and sums up."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.categories import HARM_CATEGORIES
from dr_irl.evaluation.judges import Judge
from dr_irl.evaluation.suites import HARMFUL, ORDINARY, Suite, to_answer, to_refuse
from dr_irl.language.chat import padding_id, preamble_length, prompt_ids, response_ids
from dr_irl.language.decoders import open_decoder
from dr_irl.language.logprobs import answer_logprobs
from dr_irl.language.masks import micro_batches
from dr_irl.language.own_head import head_of
from dr_irl.language.packing import Bundle, pack
from dr_irl.language.sampling import Sampler
from dr_irl.language.thoughts import answer_of
from dr_irl.records import Answer, Example
from dr_irl.results.statistics import rate
from dr_irl.results.summaries import ModelSummary, Rate

_OPENING_WORDS = 5
_TOKENS_PER_PASS = 4096
_MAX_ANSWER_TOKENS = 512


def answer_prompts(sampler: Sampler, prompts: Mapping[str, Sequence[Example]], judge: Judge) -> list[Answer]:
    """Let the model answer every prompt of every suite once, greedily, and judge each answer."""
    asked = [(suite, example) for suite, examples in prompts.items() for example in examples]
    samples = sampler.sample([example.prompt for _, example in asked], per_prompt=1, generator=torch.Generator())
    return [
        Answer(
            suite=suite,
            prompt_id=example.id,
            prompt=example.prompt,
            category=str(example.category),
            text=sample.text,
            refused=judge(example.prompt, sample.answer),
            truncated=sample.truncated,
        )
        for (suite, example), (sample,) in zip(asked, samples, strict=True)
    ]


@torch.inference_mode()
def perplexity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> float:
    """Exp of the mean negative log-likelihood per token of good answers, given their prompts; NaN without any."""
    pairs = [(example.prompt, example.response) for example in examples if example.response]
    if not pairs:
        return math.nan
    questions = prompt_ids(tokenizer, [prompt for prompt, _ in pairs])
    answers = response_ids(tokenizer, [response for _, response in pairs], limit=_MAX_ANSWER_TOKENS)
    bundles = [Bundle(question, [answer]) for question, answer in zip(questions, answers, strict=True)]
    decoder, head = open_decoder(model, upper_layers=1), head_of(model)
    shared = preamble_length(tokenizer)
    total, count = 0.0, 0
    for rows in micro_batches([len(bundle) for bundle in bundles], _TOKENS_PER_PASS):
        packed = pack([bundles[row] for row in rows], pad=padding_id(tokenizer), shared=shared, device=model.device)
        scored = answer_logprobs(decoder.states(decoder.features(packed), packed), head, packed)
        total -= float(scored.logprobs.sum())
        count += int(packed.answer.sum())
    return math.exp(total / count)


def summarise(name: str, answers: Sequence[Answer], answer_perplexity: float) -> ModelSummary:
    """Sum up one model's judged answers."""
    harmful = [answer for answer in answers if answer.suite == HARMFUL]
    by_category = {c: [a.refused for a in harmful if a.category == c] for c in HARM_CATEGORIES}
    texts = [answer_of(answer.text) for answer in answers]
    ordinary = [text for text, answer in zip(texts, answers, strict=True) if answer.suite == ORDINARY]
    return ModelSummary(
        name=name,
        refusal={c: rate(flags) for c, flags in by_category.items()} | {"all": rate([a.refused for a in harmful])},
        over_refusal=_rates(to_answer(), answers),
        perplexity=answer_perplexity,
        distinct_2=distinct_pairs(texts),
        commonest_opening=commonest_share([" ".join(text.lower().split()[:_OPENING_WORDS]) for text in ordinary]),
        commonest_answer=commonest_share(texts),
        other_refusal=_rates(to_refuse(), answers),
    )


def _rates(suites: Sequence[Suite], answers: Sequence[Answer]) -> dict[str, Rate]:
    return {suite.name: rate([a.refused for a in answers if a.suite == suite.name]) for suite in suites}


def distinct_pairs(texts: Sequence[str]) -> float:
    """Distinct word pairs over all word pairs (distinct-2, arXiv 1510.03055); NaN where there is none."""
    pairs = [pair for text in texts for pair in zip(text.lower().split(), text.lower().split()[1:], strict=False)]
    return len(set(pairs)) / len(pairs) if pairs else math.nan


def commonest_share(texts: Sequence[str]) -> float:
    """Share of the commonest text; NaN where there is none."""
    return Counter(texts).most_common(1)[0][1] / len(texts) if texts else math.nan
