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
    generator: torch.Generator,
) -> list[PreferenceRow]:
    """Pair each demonstration of a category with the reference policy's completions and answers of the other kind.

    The other kind keeps a reward model from being passed by style alone: a model of a harm category must not like an
    ordinary answer, and the benign model must not like a refusal.

    Args:
        examples: demonstrations of all categories, benign included.
        category: whose rows to make.
        completions: prompt id -> completions of the reference policy.
        contrast: answers of the other kind per prompt, drawn from the demonstrations.
        limit: at most this many rows.
        generator: draws rows and contrasts.
    """
    own = [example for example in examples if example.category == category]
    others = [str(example.response) for example in examples if (example.category == BENIGN) != (category == BENIGN)]
    chosen = torch.randperm(len(own), generator=generator)[:limit].tolist()
    rows: list[PreferenceRow] = []
    for example in (own[i] for i in sorted(chosen)):
        drawn = torch.randperm(len(others), generator=generator)[:contrast].tolist()
        negatives = (*completions[example.id], *(others[i] for i in drawn))
        rows.append(PreferenceRow(example.prompt, str(example.response), negatives))
    return rows
