"""Signs of collapse, from what one step logged."""

import pytest

from dr_irl.categories import BENIGN
from dr_irl.policy.alarms import collapse_signs
from dr_irl.policy.options import GrpoOptions
from dr_irl.records import StepRecord

OPTIONS = GrpoOptions(
    steps=1,
    prompts_per_step=1,
    group_size=2,
    benign_ratio=0.0,
    learning_rate=1.0,
    kl_weight=0.0,
    max_commonest_prefix=0.6,
    min_entropy=0.1,
)


def records(harmful: float = 0.5, benign: float | None = 0.5, entropy: float = 1.0) -> list[StepRecord]:
    found = [StepRecord(3, "commonest_prefix", "all", harmful), StepRecord(3, "entropy", "all", entropy)]
    return found if benign is None else [*found, StepRecord(3, "commonest_prefix", BENIGN, benign)]


def test_healthy_step_shows_no_sign() -> None:
    assert collapse_signs(records(), OPTIONS) == []


def test_value_at_its_limit_is_no_sign() -> None:
    assert collapse_signs(records(harmful=0.6, benign=0.6, entropy=0.1), OPTIONS) == []


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            records(harmful=0.75),
            "harmful prompts begin with the same four words (60% allowed",
        ),
        (records(benign=0.8), "80% of the completions to benign prompts"),
        (records(entropy=0.05), "the policy's entropy is 0.05 nats (grpo.min_entropy is 0.1)"),
    ],
)
def test_what_is_beyond_its_limit_is_named_with_its_value(step: list[StepRecord], said: str) -> None:
    [sign] = collapse_signs(step, OPTIONS)
    assert said in sign


def test_all_signs_are_named() -> None:
    assert len(collapse_signs(records(1.0, 1.0, 0.0), OPTIONS)) == 3


def test_nobody_is_told_where_nobody_asks() -> None:
    assert collapse_signs(records(1.0, 1.0, 0.0), OPTIONS.model_copy(update={"alarm": "off"})) == []


def test_run_without_the_guard_is_judged_by_its_harmful_prompts() -> None:
    assert len(collapse_signs(records(harmful=0.7, benign=None), OPTIONS)) == 1
