"""Scores rows that no reward model was trained on: what `readings` draws its conclusions from."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from dr_irl.categories import BENIGN, SINGLE
from dr_irl.evaluation.judges import Judge
from dr_irl.records import Example, RewardReading
from dr_irl.reward.hard_negatives import COMPLETION, MEASURING_PHRASES, hard_negatives
from dr_irl.reward.panel import RewardPanel


@dataclass(frozen=True, slots=True)
class Pair:
    """A demonstration and an answer that should lose to it."""

    prompt_id: str
    category: str
    kind: str
    prompt: str
    demonstration: str
    other: str


def measured_pairs(
    examples: Sequence[Example],
    completions: Mapping[str, Sequence[str]],
    *,
    refuses: Judge,
    generator: torch.Generator,
) -> list[Pair]:
    """Pair held-out demonstrations with completions, and those of harm categories with hard negatives too.

    Args:
        examples: held-out rows, benign ones included; an ordinary prompt is paired with another prompt's refusal:
            telling these apart is what the guard is for.
        completions: prompt id -> completions; the first is taken.
        refuses: tells refusals; compliance is made from completions that are none.
        generator: draws what hard negatives are made of.
    """
    harmful = [example for example in examples if example.category != BENIGN]
    ordinary = [str(example.response) for example in examples if example.category == BENIGN]
    refusals = itertools.cycle([str(example.response) for example in harmful] or [""])
    pairs: list[Pair] = []
    for example in examples:
        category, demonstration = str(example.category), str(example.response)
        negatives = {COMPLETION: next(refusals) if category == BENIGN else completions[example.id][0]}
        if category != BENIGN:
            own = [(e.prompt, completions[e.id][0]) for e in harmful if e.category == category]
            others = [str(e.response) for e in harmful if e.category != category]
            negatives |= hard_negatives(
                demonstration,
                others=others,
                compliance=[text for prompt, text in own if refuses(prompt, text) is False] or ordinary,
                phrases=MEASURING_PHRASES,
                generator=generator,
            )
        pairs += [
            Pair(example.id, category, kind, example.prompt, demonstration, other) for kind, other in negatives.items()
        ]
    return pairs


def read_rewards(panel: RewardPanel, pairs: Sequence[Pair], *, refuses: Judge) -> list[RewardReading]:
    """Score each pair: completions under every model, hard negatives under the own one and the single one.

    Args:
        panel: its models may include `single`.
        pairs: what to score.
        refuses: tells refusals, for the rule that goes by refusal.
    """
    sides = {(pair.prompt, text) for pair in pairs for text in (pair.demonstration, pair.other)}
    texts = {side: place for place, side in enumerate(sorted(sides))}
    prompts, answers = [prompt for prompt, _ in texts], [answer for _, answer in texts]
    # Under every model: the lower layers then run once, and they cost more than the upper ones of all models.
    rewards = {model: scores.tolist() for model, scores in panel.cross_score(prompts, answers).items()}
    tokens = panel.scored_tokens(answers)
    readings: list[RewardReading] = []
    for model in panel.categories:
        for pair in (pair for pair in pairs if pair.kind == COMPLETION or model in (pair.category, SINGLE)):
            ours, other = texts[pair.prompt, pair.demonstration], texts[pair.prompt, pair.other]
            readings.append(
                RewardReading(
                    model=model,
                    category=pair.category,
                    kind=pair.kind,
                    prompt_id=pair.prompt_id,
                    demonstration_reward=rewards[model][ours],
                    other_reward=rewards[model][other],
                    demonstration_tokens=tokens[ours],
                    other_tokens=tokens[other],
                    demonstration_refuses=refuses(pair.prompt, pair.demonstration),
                    other_refuses=refuses(pair.prompt, pair.other),
                )
            )
    return readings
