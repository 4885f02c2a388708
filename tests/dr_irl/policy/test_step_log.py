"""What the alignment loop logs, from completions small enough to count."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.categories import BENIGN
from dr_irl.language.sampling import Sample
from dr_irl.policy.rollouts import Rollouts, TrainingPrompt
from dr_irl.policy.step_log import LoopState, headline, scaling_records, step_records
from dr_irl.records import ScalingRecord, StepRecord
from dr_irl.scaling.dynamic import Factors

HARMFUL, OTHER, ORDINARY = (
    TrainingPrompt(name, "text", category, "demonstration", 0.5, 0.5)
    for name, category in (("i", "insult"), ("p", "physical_harm"), ("b", BENIGN))
)
ROLLOUTS = Rollouts(
    prompts=[HARMFUL, OTHER, ORDINARY],
    samples=[
        [Sample((1, 2), "No, I will not do it", False), Sample((1, 2, 3, 4), "no, i will not help", True)],
        [Sample((1,), "here", False), Sample((1,), "No", False)],
        [Sample((1,) * 9, "hello", False), Sample((1,), "hi", False)],
    ],
    rewards=torch.tensor([[1.0, 3.0], [2.0, 2.0], [7.0, 9.0]]),
    demonstration_rewards=torch.tensor([4.0, 4.0, 8.0]),
)
GAPS = torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, -1.0]])
FACTORS = Factors(
    data=torch.tensor([1.5, 0.5, 1.0]),
    model=torch.tensor([0.5, 1.0, 1.0]),
    alpha=torch.tensor([0.75, 0.5, 1.0]),
    kept=torch.tensor([[True, False], [True, True], [True, True]]),
    mean_gaps={"insult": 2.0},
)
FLOATS = st.floats()
STEP_RECORDS = st.builds(StepRecord, step=st.integers(), name=st.text(), category=st.text(), value=FLOATS)
SCALING_RECORDS = st.builds(
    ScalingRecord,
    step=st.integers(),
    prompt_id=st.text(),
    category=st.text(),
    **dict.fromkeys(("data", "model", "alpha", "gap", "kept", "reward_mean", "reward_std"), FLOATS),
)


def records() -> list[StepRecord]:
    return step_records(
        4, ROLLOUTS, GAPS, {"kl": 0.25}, lambda _, text: text.lower().startswith("no") or None, tolerance=0.0
    )


@pytest.mark.parametrize(
    ("name", "insult", "harmful"),
    [
        ("reward", 2.0, 2.0),  # (1 + 3) / 2, (1 + 3 + 2 + 2) / 4
        ("gap", 2.0, 2.0),
        ("refusal", 1.0, 0.75),
        ("length_tokens", 3.0, 2.0),  # (2 + 4) / 2, (2 + 4 + 1 + 1) / 4
        ("truncated", 0.5, 0.25),
        ("commonest_prefix", 1.0, 0.5),  # four words, in lower case
        ("zero_variance", 0.0, 0.5),
    ],
)
def test_category_and_all_harmful_prompts_are_described(name: str, insult: float, harmful: float) -> None:
    found = {r.category: r.value for r in records() if r.name == name}
    assert (found["insult"], found["all"]) == (insult, harmful)


def test_benign_prompts_have_no_gap() -> None:
    assert {r.category for r in records() if r.name == "gap"} == {"insult", "physical_harm", "all"}


def test_update_is_described_as_a_whole() -> None:
    assert records()[0] == StepRecord(step=4, name="kl", category="all", value=0.25)


def test_every_record_is_of_its_step() -> None:
    assert {r.step for r in records()} == {4}


def test_scaling_of_a_prompt_is_described() -> None:
    expected = ScalingRecord(
        step=4,
        prompt_id="i",
        category="insult",
        data=1.5,
        model=0.5,
        alpha=0.75,
        gap=2.0,
        kept=0.5,
        reward_mean=2.0,
        reward_std=float(torch.tensor(2.0).sqrt()),
    )
    assert scaling_records(4, ROLLOUTS, GAPS, FACTORS)[0] == expected


def test_headline_is_of_harmful_prompts_and_of_benign_refusals() -> None:
    assert headline(records()) == {"reward": 2.0, "refusal": 0.75, "kl": 0.25, "benign_refusal": 0.0}


def test_headline_leaves_out_what_was_not_measured() -> None:
    assert headline([r for r in records() if r.category != BENIGN]).keys() == {"reward", "refusal", "kl"}


def test_finished_step_is_counted_and_kept() -> None:
    state = LoopState(step=4, mean_gaps={"insult": 1.0})
    state.finish_step(records(), scaling_records(4, ROLLOUTS, GAPS, FACTORS), FACTORS)
    assert (state.step, state.mean_gaps) == (5, {"insult": 2.0})
    assert (len(state.logged), len(state.scaling)) == (1 + 4 * 7 - 1, 3)


@given(
    st.dictionaries(st.text(), FLOATS, max_size=2),
    st.lists(STEP_RECORDS, max_size=2),
    st.lists(SCALING_RECORDS, max_size=2),
    st.dictionaries(st.text(), FLOATS, max_size=2),
)
def test_state_survives_as_json(
    mean_gaps: dict[str, float],
    logged: list[StepRecord],
    scaling: list[ScalingRecord],
    distances: dict[str, float],
) -> None:
    state = LoopState(7, mean_gaps, logged, scaling, distances)
    found = LoopState.from_json(7, json.loads(json.dumps(state.to_json())))
    assert repr(found) == repr(state)  # repr: NaN is not equal to itself
