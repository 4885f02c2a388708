"""What the page of a run shows, from records small enough to average by hand."""

from dr_irl.categories import BENIGN
from dr_irl.records import ScalingRecord
from tasks.run_page import scaling_rows


def record(step: int, category: str, alpha: float, gap: float, kept: float = 1.0) -> ScalingRecord:
    return ScalingRecord(step, "id", category, 1.0, alpha, alpha, gap, kept, 0.0, 0.0)


RECORDS = [
    record(0, "insult", 0.8, 2.0, kept=0.5),
    record(0, "insult", 1.2, 4.0),
    record(1, "insult", 1.3, 1.0),
    record(0, "physical_harm", 1.0, 5.0),
    record(0, BENIGN, 1.0, 9.0),
]


def test_every_harm_category_has_a_row() -> None:
    assert [(row["category"], row["prompts"]) for row in scaling_rows(RECORDS)] == [("insult", 3), ("physical_harm", 1)]


def test_factor_is_shown_with_its_range() -> None:
    assert scaling_rows(RECORDS)[0]["alpha"] == "1.100 (0.800 to 1.300)"


def test_gap_is_shown_at_both_ends() -> None:
    row = scaling_rows(RECORDS)[0]
    assert (row["gap, first step"], row["gap, last step"]) == (3.0, 1.0)


def test_share_of_kept_gaps_is_over_all_prompts() -> None:
    assert scaling_rows(RECORDS)[0]["gaps kept"] == "83%"
