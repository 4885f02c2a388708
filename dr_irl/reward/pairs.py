"""Which answers each demonstration is compared with."""

from collections.abc import Mapping, Sequence

import torch

from dr_irl.categories import BENIGN
from dr_irl.records import Example
from dr_irl.reward.train import PreferenceRow


def preference_rows(
    examples: Sequence[Example],
    category: str,
    completions: Mapping[str, Sequence[str]],
    *,
    contrast: int,
    limit: int,
    own_answers: bool,
    generator: torch.Generator,
) -> list[PreferenceRow]:
    """Pair each demonstration of a category with the reference policy's completions and answers of the other kind.

    The other kind keeps a reward model from being passed by style alone: a model of a harm category must not like an
    ordinary answer, and the benign model must not like a refusal.

    Args:
        examples: demonstrations of all categories, benign included.
        category: whose rows to make.
        completions: prompt id -> completions of the reference policy; prompts without any demonstrate nothing.
        contrast: answers of the other kind per prompt, drawn from the demonstrations.
        limit: at most this many rows.
        own_answers: let the benign model demonstrate the reference policy's own first completion, and learn from
            refusals only: it then pays to answer, and no style of answering does.
        generator: draws rows and contrasts.
    """
    own = [example for example in examples if example.category == category and example.id in completions]
    others = [str(example.response) for example in examples if (example.category == BENIGN) != (category == BENIGN)]
    chosen = torch.randperm(len(own), generator=generator)[:limit].tolist()
    rows: list[PreferenceRow] = []
    for example in (own[i] for i in sorted(chosen)):
        sampled = tuple(completions[example.id])
        if own_answers and category == BENIGN:
            demonstration, sampled, count = sampled[0], (), contrast + len(sampled)
        else:
            demonstration, count = str(example.response), contrast
        drawn = torch.randperm(len(others), generator=generator)[:count].tolist()
        rows.append(PreferenceRow(example.prompt, demonstration, (*sampled, *(others[i] for i in drawn))))
    return rows
