"""Which prompts a step trains on."""

from collections import Counter

import torch

from dr_irl.categories import BENIGN
from dr_irl.language.sampling import Sample
from dr_irl.policy.rollouts import Rollouts, TrainingPrompt, schedule_prompts, substitutes

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


def draw(used: list[int], replaced: list[int], seed: int = 0) -> dict[int, int]:
    return dict(substitutes(CATEGORIES, used, replaced, generator=torch.Generator().manual_seed(seed)))


def test_substitute_is_of_the_same_category_and_new_in_the_step() -> None:
    for seed in range(20):
        assert draw([0, 1, 4], [0], seed) == {0: 2}  # insults are 0, 1, 2


def test_no_two_groups_get_the_same_substitute() -> None:
    for seed in range(20):
        assert sorted(draw([3, 4, 5], [3, 4], seed).values()) == [6, 7]


def test_group_without_a_substitute_stays_out() -> None:
    assert draw([0, 1, 2, 3], [0, 3]).keys() == {3}


def test_replaced_groups_take_the_place_of_the_old_ones() -> None:
    def of(name: str, reward: float) -> Rollouts:
        prompt = TrainingPrompt(name, name, "insult", "", 0.0, 0.0)
        return Rollouts([prompt], [[Sample((1,), name, False)]], torch.full((1, 1), reward), torch.full((1,), -reward))

    old = Rollouts(
        [of("a", 1.0).prompts[0], of("b", 2.0).prompts[0]],
        [of("a", 1.0).samples[0], of("b", 2.0).samples[0]],
        torch.tensor([[1.0], [2.0]]),
        torch.tensor([-1.0, -2.0]),
    )
    new = old.replace_groups([1], of("c", 3.0))
    assert [p.id for p in new.prompts] == [group[0].text for group in new.samples] == ["a", "c"]
    assert (new.rewards.tolist(), new.demonstration_rewards.tolist()) == ([[1.0], [3.0]], [-1.0, -3.0])
    assert old.rewards.tolist() == [[1.0], [2.0]]
