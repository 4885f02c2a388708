"""How a rate is written where people read it as text: on the terminal, on the page of a run, on a model card."""

from dr_irl.results.summaries import Rate


def show_rate(rate: Rate | None) -> str:
    """Write a share with its 95 % interval in percent, `75% [30, 95]`, and how many nobody could score."""
    if rate is None or not rate.count + rate.unscored:
        return "not measured"
    if not rate.count:
        return f"{rate.unscored} unscored"
    unscored = f" ({rate.unscored} unscored)" if rate.unscored else ""
    return f"{rate.value:.0%} [{100 * rate.low:.0f}, {100 * rate.high:.0f}]{unscored}"


def show_counted_rate(rate: Rate | None) -> str:
    """Write the same with its count, `3 of 4: 75% [30, 95]`."""
    counted = f"{rate.hits} of {rate.count}: " if rate is not None and rate.count else ""
    return counted + show_rate(rate)
