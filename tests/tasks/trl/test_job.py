"""Our settings in TRL's words."""

from pathlib import Path
from typing import Any

import pytest

from dr_irl.categories import BENIGN
from dr_irl.config import Settings
from dr_irl.errors import SettingsError
from dr_irl.policy.rollouts import TrainingPrompt, schedule_prompts
from dr_irl.profile import load_settings
from dr_irl.seeding import torch_generator
from tasks.trainers.grpo_trl import GRPO_TRL
from tasks.trl.job import TrlJob, rows_at_once, scheduled_rows, trl_arguments, updates_per_step

PROMPTS = [
    TrainingPrompt(f"{category}-{row}", "text", category, "No.", 0.4, 0.5)
    for category in ("insult", "crimes", BENIGN)
    for row in range(3)
]


FOR_TRL = {"alignment.trainer": "grpo-trl", "hardness.source": "reference", "grpo.top_up": 0, "grpo.minibatches": 1}


def settings(**changes: Any) -> Settings:
    """Smoke: 3 steps of 4 prompts x 2 completions, at most 8 tokens each."""
    return load_settings("smoke", FOR_TRL | {name.replace("__", "."): value for name, value in changes.items()})


def arguments(**changes: Any) -> dict[str, Any]:
    return trl_arguments(settings(**changes), longest_prompt=24, scratch=Path("x"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grpo__advantage_spread": "batch"}, "grpo.advantage_spread = batch"),
        ({"grpo__top_up": 2}, "grpo.top_up = 2"),
        ({"hardness__source": "policy"}, "hardness.source = policy"),
        ({"models__device": "cuda:1"}, "models.device = cuda:1"),
        ({"alignment__num_processes": 3}, "8 completions a step .* do not split evenly over 3 parts"),
        ({"grpo__minibatches": 3}, "8 completions a step .* do not split evenly over 3 parts"),
    ],
)
def test_settings_that_trl_cannot_honour_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        GRPO_TRL.check(settings(**change))


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(SettingsError, match="advantage_spread.*; nor grpo.top_up"):
        GRPO_TRL.check(settings(grpo__advantage_spread="batch", grpo__top_up=1))


def test_settings_that_mean_the_same_are_accepted() -> None:
    GRPO_TRL.check(settings())


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_an_update_sees_all_completions_of_a_step(processes: int) -> None:
    found = arguments(alignment__num_processes=processes)
    assert found["per_device_train_batch_size"] * found["gradient_accumulation_steps"] * processes == 8


def test_a_pass_has_at_most_the_tokens_of_a_micro_batch() -> None:
    """A row has at most 24 + 8 tokens: 100 tokens hold three, and 8 rows split evenly into passes of two."""
    assert arguments(grpo__micro_batch_tokens=100)["per_device_train_batch_size"] == 2


@pytest.mark.parametrize(("rows", "most", "size"), [(8, 8, 8), (8, 7, 4), (12, 5, 4), (7, 6, 1), (4, 100, 4)])
def test_passes_are_of_one_size(rows: int, most: int, size: int) -> None:
    assert rows_at_once(rows, most) == size


def test_minibatches_are_updates_on_one_sampled_batch() -> None:
    found = arguments(grpo__minibatches=2, grpo__iterations=3)
    updates = found["steps_per_generation"] // found["gradient_accumulation_steps"] * found["num_iterations"]
    assert updates == updates_per_step(settings(grpo__minibatches=2, grpo__iterations=3)) == 6


def test_updates_of_all_steps_are_asked_for() -> None:
    assert arguments(grpo__minibatches=2, grpo__iterations=3)["max_steps"] == 3 * 6


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"grpo__clip": 0.1}, "epsilon", 0.1),
        ({"grpo__clip_high": 0.3}, "epsilon_high", 0.3),
        ({"grpo__kl_weight": 0.2}, "beta", 0.2),
        ({"grpo__loss_type": "dapo"}, "loss_type", "dapo"),
        ({"grpo__advantage_spread": "none"}, "scale_rewards", "none"),
        ({"grpo__mask_truncated": True}, "mask_truncated_completions", True),
        ({"grpo__temperature": 0.7}, "temperature", 0.7),
        ({"completions__max_new_tokens": 5}, "max_completion_length", 5),
    ],
)
def test_a_setting_has_its_name_in_trl(change: dict[str, Any], name: str, value: object) -> None:
    assert arguments(**change)[name] == value


def test_rows_come_in_the_order_of_our_own_loop() -> None:
    given = settings()
    wanted = schedule_prompts(
        [prompt.category for prompt in PROMPTS],
        steps=3,
        per_step=4,
        benign_ratio=0.5,
        generator=torch_generator(given.seed, "schedule"),
    )
    assert [row["id"] for row in scheduled_rows(given, PROMPTS)] == [PROMPTS[i].id for step in wanted for i in step]


def test_job_comes_back_from_json() -> None:
    job = TrlJob(
        settings=settings(),
        prompts=tuple(PROMPTS),
        panel={"insult": Path("p")},
        start=Path("s"),
        folder=Path("f"),
    )
    assert TrlJob.model_validate_json(job.model_dump_json()) == job
