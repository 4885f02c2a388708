"""The table that a run ends with."""

import pytest
from rich.console import Console

from dr_irl.categories import HARM_CATEGORIES
from dr_irl.results.statistics import rate
from dr_irl.results.summaries import ModelSummary
from flows.commands.terminal import result_table


def summary(name: str, flags: list[bool | None]) -> ModelSummary:
    """A model that did the same on all kinds of prompts."""
    same = rate(flags)
    refusal = dict.fromkeys((*HARM_CATEGORIES, "all"), same)
    over_refusal = dict.fromkeys(("ordinary", "lookalike"), same)
    return ModelSummary(name, refusal, over_refusal, 51.7, 0.9, 0.1, 0.1)


def lines(*models: ModelSummary) -> list[str]:
    console = Console(width=80)
    with console.capture() as said:
        console.print(result_table(list(models)))
    return said.get().splitlines()


def test_three_models_fit_on_80_columns_with_a_line_for_every_kind_of_prompts() -> None:
    all_refused = [summary(name, [True] * 182) for name in ("unaligned", "warm start", "aligned")]
    said = lines(*all_refused)
    for label in (*HARM_CATEGORIES, "harmful, all", "benign: ordinary", "benign: look-alike"):
        [line] = [line for line in said if line.strip().startswith(label)]
        assert line.split(label)[1].split() == ["182", *["100%", "[98,", "100]"] * 3]
    assert next(line for line in said if "prompts" in line).split() == [
        "prompts",
        "n",
        "unaligned",
        "warm",
        "start",
        "aligned",
    ]


@pytest.mark.parametrize(
    ("flags", "cell"),
    [([True, False, None], "3 50% [9, 91] (1 unscored)"), ([None, None], "2 2 unscored")],
)
def test_an_answer_without_a_score_is_told_as_such(flags: list[bool | None], cell: str) -> None:
    [line] = [line for line in lines(summary("aligned", flags)) if "harmful, all" in line]
    assert " ".join(line.split()[2:]) == cell
