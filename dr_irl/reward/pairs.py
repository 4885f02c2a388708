"""Which answers each demonstration is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from dr_irl.categories import BENIGN
from dr_irl.errors import DataError
from dr_irl.evaluation.judges import Judge
from dr_irl.records import Example
from dr_irl.reward.hard_negatives import TRAINING_PHRASES, hard_negatives
from dr_irl.reward.options import RewardOptions


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """A prompt, its demonstration, and answers that the demonstration should beat."""

    prompt: str
    demonstration: str
    completions: tuple[str, ...]
    """Drawn from the reference policy."""
    contrasts: tuple[str, ...]
    """Chosen by us; they enter the loss as if the reference policy had drawn them."""


def preference_rows(
    examples: Sequence[Example],
    category: str,
    completions: Mapping[str, Sequence[str]],
    options: RewardOptions,
    *,
    refuses: Judge,
    generator: torch.Generator,
) -> list[PreferenceRow]:
    """Pair each demonstration of a category with the reference policy's completions and answers chosen by us.

    Answers of the other kind keep a reward model from being passed by style alone: a model of a harm category must not
    like an ordinary answer, and the benign model must not like a refusal. Hard negatives keep it from being passed by
    an opening: see `hard_negatives`. The benign model has none: its negatives are refusals.

    Args:
        examples: demonstrations of all categories, benign included.
        category: whose rows to make.
        completions: prompt id -> completions of the reference policy; prompts without any demonstrate nothing.
        options: how many of what. With `benign_answers` = `own` the benign model demonstrates the reference policy's
            own first completion that says anything, and learns from refusals only: it then pays to answer, and no
            style does.
        refuses: tells refusals; hard negatives are made from completions that are none.
        generator: draws rows and answers.

    Raises:
        DataError: a demonstration is empty.
    """
    own = [example for example in examples if example.category == category and example.id in completions]
    others = [str(example.response) for example in examples if (example.category == BENIGN) != (category == BENIGN)]
    chosen = torch.randperm(len(own), generator=generator)[: options.max_rows].tolist()
    rows: list[PreferenceRow] = []
    for example in (own[i] for i in sorted(chosen)):
        sampled = tuple(completions[example.id])
        demonstration, count = example.response or "", options.contrast_negatives
        if options.benign_answers == "own" and category == BENIGN:
            demonstration = next((text for text in sampled if text.strip()), "")
            sampled, count = (), options.contrast_negatives + len(sampled)
            if not demonstration:
                continue  # the policy said nothing, which is no answer to learn from
        if not demonstration.strip():
            raise DataError(f"the demonstration of prompt {example.id!r} is empty; give it an answer or remove the row")
        drawn = torch.randperm(len(others), generator=generator)[:count].tolist()
        rows.append(PreferenceRow(example.prompt, demonstration, sampled, tuple(others[i] for i in drawn)))
    if category == BENIGN or not options.hard_negatives:
        return rows
    foreign = [str(e.response) for e in examples if e.category not in (category, BENIGN)]
    compliant = [text for e in own for text in completions[e.id] if refuses(e.prompt, text) is False] or others
    return [_harder(row, options.hard_negatives, foreign, compliant, generator) for row in rows]


def without_equals(rows: Sequence[PreferenceRow]) -> list[PreferenceRow]:
    """Leave out rows whose demonstration is all that it is compared with: there is nothing to learn from them."""
    return [row for row in rows if {row.demonstration} != {*row.completions, *row.contrasts}]


def _harder(
    row: PreferenceRow, count: int, foreign: Sequence[str], compliant: Sequence[str], generator: torch.Generator
) -> PreferenceRow:
    """Add hard negatives to a row, each of another kind."""
    made = hard_negatives(
        row.demonstration, others=foreign, compliance=compliant, phrases=TRAINING_PHRASES, generator=generator
    )
    kinds = list(made)
    chosen = torch.randperm(len(kinds), generator=generator)[:count].tolist()
    added = tuple(made[kinds[i]] for i in chosen)
    return PreferenceRow(row.prompt, row.demonstration, row.completions, (*row.contrasts, *added))
