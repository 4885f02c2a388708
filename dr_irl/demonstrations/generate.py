"""Writes demonstrations for prompts that have none, and keeps only those that pass."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from dr_irl.categories import BENIGN
from dr_irl.demonstrations.dedupe import LeftOut
from dr_irl.demonstrations.templates import MAX_STEP_WORDS, draft_prompt, parse_draft
from dr_irl.evaluation.judges import Judge
from dr_irl.language.sampling import Sample, Sampler
from dr_irl.records import Example


def generate_demonstrations(
    examples: Sequence[Example],
    sampler: Sampler,
    judge: Judge,
    *,
    max_response_words: int,
    generator: torch.Generator,
) -> tuple[list[Example], LeftOut]:
    """Give every training row without a response one, or drop it; other rows pass through unchanged.

    A harmful prompt is answered through the Chain-of-Draft template and the judge must see a refusal; a benign one is
    answered plainly and the judge must not.

    Returns:
        The rows in the order given, and the others with the reasons.
    """
    pending = [e for e in examples if _lacks_demonstration(e) and e.category is not None]
    questions = [_question(example) for example in pending]
    sampled = sampler.sample(questions, per_prompt=1, generator=generator) if questions else []
    samples = {id(example): group[0] for example, group in zip(pending, sampled, strict=True)}
    kept: list[Example] = []
    left_out: LeftOut = []
    for example in examples:
        written = example
        if _lacks_demonstration(example):
            sample = samples.get(id(example))
            written = "no category" if sample is None else _written(example, sample, judge, max_response_words)
        if isinstance(written, Example):
            kept.append(written)
        else:
            left_out.append((example, written))
    return kept, left_out


def _lacks_demonstration(example: Example) -> bool:
    return example.split == "train" and example.response is None


def _question(example: Example) -> str:
    if example.category is None or example.category == BENIGN:
        return example.prompt
    return draft_prompt(example.prompt, example.category)


def _written(example: Example, sample: Sample, judge: Judge, max_response_words: int) -> Example | str:
    """Return the row with its demonstration, or the reason why there is none."""
    draft, response = (), sample.answer.strip()
    if example.category != BENIGN:
        parsed = parse_draft(sample.answer)
        if parsed is None:
            return "does not parse"
        if parsed.longest_step_words > MAX_STEP_WORDS:
            return "draft step too long"
        draft, response = parsed.draft, parsed.response
    if not response:
        return "does not parse"
    if sample.truncated or len(response.split()) > max_response_words:
        return "response too long"
    if (judge(example.prompt, response) is True) != (example.category != BENIGN):
        return "judge did not accept"
    return replace(example, draft=draft, response=response)
