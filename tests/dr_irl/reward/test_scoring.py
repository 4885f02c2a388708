"""Batches through a panel, row by row."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from dr_irl.errors import DataError
from dr_irl.reward.panel import RewardPanel
from dr_irl.reward.rows import Batch, RowSource
from dr_irl.reward.scoring import RowScorer, Tally


class Lengths(RewardPanel):
    """A panel whose reward is the answer's length, negative for `insult`; it cuts at 3 and takes prompts up to 9."""

    def __init__(self) -> None: ...

    @property
    def categories(self) -> tuple[str, ...]:
        return ("insult", "benign")

    def score(self, categories: Sequence[str], prompts: Sequence[str], responses: Sequence[str]) -> torch.Tensor:
        if any(len(prompt) > 9 for prompt in prompts):
            raise DataError("a prompt leaves no room")
        signs = [-1.0 if category == "insult" else 1.0 for category in categories]
        return torch.tensor([sign * len(response) for sign, response in zip(signs, responses, strict=True)])

    def cut(self, prompts: Sequence[str], responses: Sequence[str]) -> list[bool]:
        return [len(response) > 3 for response in responses]

    def trimmed(self, responses: Sequence[str]) -> list[bool]:
        return [response.endswith("|") for response in responses]


def batch(*rows: tuple[str, str, str]) -> Batch:
    categories, prompts, responses = (list(column) for column in zip(*rows, strict=True))
    source = RowSource(Path("rows.jsonl"), ".jsonl", "'rows.jsonl'")
    return Batch(source, range(5, 5 + len(rows)), categories, prompts, responses, [{"prompt": p} for p in prompts])


def test_each_row_gets_its_own_score_in_order() -> None:
    scored = RowScorer(Lengths()).score(batch(("benign", "a", "12345"), ("insult", "b", "12"), ("insult", "c", "")))
    assert scored == [
        {"prompt": "a", "reward": 5.0, "cut": True},
        {"prompt": "b", "reward": -2.0, "cut": False},
        {"prompt": "c", "reward": 0.0, "cut": False},
    ]


def test_rows_are_tallied_by_category_over_batches() -> None:
    scorer = RowScorer(Lengths())
    scorer.score(batch(("benign", "a", "12345"), ("insult", "b", "12")))
    scorer.score(batch(("benign", "a", "1")))
    assert scorer.tallies == {"insult": Tally(1, -2.0, 0), "benign": Tally(2, 6.0, 1)}
    assert scorer.tallies["benign"].mean == 3.0


def test_answers_scored_without_their_markers_are_counted() -> None:
    scorer = RowScorer(Lengths())
    scorer.score(batch(("benign", "a", "1|"), ("benign", "b", "12"), ("insult", "c", "|")))
    assert [scorer.tallies[name].trimmed for name in ("benign", "insult")] == [1, 1]


def test_a_row_that_cannot_be_scored_is_told_by_its_place() -> None:
    with pytest.raises(DataError, match=r"^line 6 of 'rows.jsonl': a prompt leaves no room$"):
        RowScorer(Lengths()).score(batch(("benign", "a", "1"), ("benign", "0123456789", "1"), ("benign", "b", "1")))
