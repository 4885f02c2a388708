"""Two models compared on the same prompts."""

from dr_irl.records import Answer
from dr_irl.results.statistics import mcnemar
from dr_irl.results.summaries import Comparison


def compare_refusals(
    suite: str, before_name: str, after_name: str, before: list[Answer], after: list[Answer]
) -> Comparison:
    """Compare the refusals of two models on one suite.

    Raises:
        ValueError: the two lists are not answers to the same prompts in the same order.
    """
    _check_same_prompts(before, after)
    gained, lost, p_value = mcnemar([a.refused for a in before], [a.refused for a in after])
    return Comparison(suite=suite, before=before_name, after=after_name, gained=gained, lost=lost, p_value=p_value)


def _check_same_prompts(before: list[Answer], after: list[Answer]) -> None:
    if len(before) != len(after):
        raise ValueError(
            f"{len(before)} answers before and {len(after)} after: a paired test needs the same prompts, "
            "in the same order"
        )
    for position, (old, new) in enumerate(zip(before, after, strict=True)):
        if old.prompt_id != new.prompt_id:
            raise ValueError(
                f"answer {position} is to prompt {old.prompt_id!r} before and {new.prompt_id!r} after: a paired test "
                "needs the same prompts, in the same order"
            )
