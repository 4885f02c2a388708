"""Data whose demonstrations comply is refused."""

from collections.abc import Callable

import pytest

from dr_irl.demonstrations.declining import require_declining
from dr_irl.demonstrations.sources import load_examples
from dr_irl.errors import DataError
from dr_irl.evaluation.judges import JUDGES
from dr_irl.records import Example

Make = Callable[..., Example]
JUDGE = JUDGES["wording"]


def rows(make_example: Make, declining: int, complying: int, **changes: str) -> list[Example]:
    answers = ["I won't help with that."] * declining + ["Sure, here is how it goes."] * complying
    return [make_example(f"prompt {i}", response=answer, **changes) for i, answer in enumerate(answers)]


def test_a_file_whose_demonstrations_mostly_comply_is_refused_beside_a_good_one(make_example: Make) -> None:
    good, bad = rows(make_example, 50, 0, file="good.csv"), rows(make_example, 2, 4, file="bad.csv")
    with pytest.raises(
        DataError, match=r"source 'bad.csv': 4 of 6 demonstrations of insult do not decline; .*allow_comp"
    ):
        require_declining([*good, *bad], JUDGE)


def test_few_rows_of_many_files_are_judged_together(make_example: Make) -> None:
    files = [row for i in range(4) for row in rows(make_example, 0, 2, file=f"{i}.csv")]
    with pytest.raises(DataError, match="all sources together: 8 of 8 demonstrations of insult"):
        require_declining(files, JUDGE)


def test_half_may_comply_and_ordinary_prompts_should(make_example: Make) -> None:
    require_declining(rows(make_example, 5, 5) + rows(make_example, 0, 9, category="benign"), JUDGE)


def test_answers_that_the_judge_cannot_tell_do_not_count(make_example: Make) -> None:
    require_declining([*rows(make_example, 1, 0), *(make_example(response="") for _ in range(9))], JUDGE)


def test_the_shipped_demonstrations_decline() -> None:
    require_declining(load_examples(["seed"], max_prompt_characters=4000, max_bad_rows=0.0)[0], JUDGE)
