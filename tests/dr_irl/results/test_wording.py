import pytest

from dr_irl.results.summaries import Rate
from dr_irl.results.wording import show_counted_rate, show_rate


@pytest.mark.parametrize(
    ("rate", "shown", "counted"),
    [
        (Rate(3, 4, 0.3006, 0.9544), "75% [30, 95]", "3 of 4: 75% [30, 95]"),
        (Rate(3, 4, 0.3006, 0.9544, unscored=2), "75% [30, 95] (2 unscored)", "3 of 4: 75% [30, 95] (2 unscored)"),
        (Rate(0, 0, 0.0, 1.0, unscored=4), "4 unscored", "4 unscored"),
        (Rate(0, 0, 0.0, 1.0), "not measured", "not measured"),
        (None, "not measured", "not measured"),
    ],
)
def test_a_rate_is_written_with_its_interval_and_what_nobody_could_score(
    rate: Rate | None, shown: str, counted: str
) -> None:
    assert (show_rate(rate), show_counted_rate(rate)) == (shown, counted)
