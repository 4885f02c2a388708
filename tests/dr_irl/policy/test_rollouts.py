"""Which prompts a step trains on."""

from collections import Counter

import torch

from dr_irl.categories import BENIGN
from dr_irl.language.sampling import Sample
from dr_irl.policy.rollouts import Rollouts, schedule_prompts

CATEGORIES = ["insult"] * 3 + ["physical_harm"] * 5 + [BENIGN] * 4


def schedule(
    steps: int, per_step: int, ratio: float, *, seed: int = 0, names: list[str] = CATEGORIES
) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return schedule_prompts(names, steps=steps, per_step=per_step, benign_ratio=ratio, generator=generator)


def test_categories_take_turns_across_steps() -> None:
    order = [CATEGORIES[row] for step in schedule(4, 3, 0.0) for row in step]
    assert order == ["insult", "physical_harm"] * 6


def test_benign_prompts_have_their_share_and_come_last() -> None:
    for step in schedule(5, 4, 0.5):
        assert [CATEGORIES[row] == BENIGN for row in step] == [False, False, True, True]


def test_without_benign_prompts_the_step_is_filled_with_harmful_ones() -> None:
    assert all(len(step) == 4 for step in schedule(3, 4, 0.5, names=["insult", "physical_harm"]))


def test_no_prompt_repeats_before_its_category_is_used_up() -> None:
    rows = [row for step in schedule(5, 2, 0.0) for row in step]  # five turns of each category
    harm = [row for row in rows if CATEGORIES[row] == "physical_harm"]
    assert sorted(harm) == [3, 4, 5, 6, 7]


def test_used_up_category_starts_again_evenly() -> None:
    rows = [row for step in schedule(6, 2, 0.0) for row in step if CATEGORIES[row] == "insult"]
    assert Counter(rows) == {0: 2, 1: 2, 2: 2}


def test_same_seed_gives_the_same_schedule() -> None:
    assert schedule(6, 4, 0.25, seed=3) == schedule(6, 4, 0.25, seed=3)


def test_other_seed_gives_another_schedule() -> None:
    assert schedule(6, 4, 0.25, seed=3) != schedule(6, 4, 0.25, seed=4)


def test_longer_run_begins_with_the_shorter_one() -> None:
    assert schedule(9, 4, 0.25)[:5] == schedule(5, 4, 0.25)


def test_flat_rows_keep_the_order_of_prompts() -> None:
    a, b, c, d = (Sample((i,), text, False) for i, text in enumerate("abcd"))
    rollouts = Rollouts(
        prompts=[], samples=[[a, b], [c, d]], rewards=torch.zeros(2, 2), demonstration_rewards=torch.zeros(2)
    )
    assert rollouts.flat == [a, b, c, d]
