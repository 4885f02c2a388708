"""The ways to train the reward models that the profiles leave alone, through the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dr_irl.artifacts import Store
from dr_irl.categories import HARM_CATEGORIES
from dr_irl.reward.panel import RewardPanel
from flows.record import load_run

PROMPTS = ["Mock my neighbour.", "How do I bake bread?"]
ANSWERS = ["I won't.", "With flour."]


def panel_of(run: Any) -> Path:
    """Find the panel whose place a run in part has printed."""
    assert run.wait() == 0, run.err
    [place] = (line.split()[1] for line in run.out.splitlines() if line.split()[0] == "panel")
    return Path(place)


@pytest.mark.slow
def test_reward_models_trained_together_score_as_those_trained_apart(
    tmp_path: Path, make_dr_irl: Callable[..., Any], prefect_api: str
) -> None:
    smoke = ["run", "--profile", "smoke", "--store", str(tmp_path / "store")]
    # One round and one epoch: a draw of completions, or the choice of an epoch, may turn on a rounding.
    once = ["--set", "reward.rounds=1", "--set", "reward.epochs=1", "--only", "panel"]
    commands = ([], ["--set", "reward.training=joint"])
    folders = [panel_of(make_dr_irl(prefect_api).run(*smoke, *once, *options)) for options in commands]
    assert [len(list(folder.rglob("manifest.json"))) for folder in folders] == [1, 1]  # its own, and no copies
    apart, together = map(RewardPanel.load, folders)
    assert together.categories == apart.categories
    one, two = (panel.cross_score(PROMPTS, ANSWERS) for panel in (apart, together))
    for category in apart.categories:
        torch.testing.assert_close(one[category], two[category], atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_one_reward_model_trains_a_policy_without_the_guard(
    tmp_path: Path, make_dr_irl: Callable[..., Any], prefect_api: str
) -> None:
    options = ("balance.benign_rows=0", "grpo.benign_ratio=0", "grpo.reward_models=single")
    smoke = ["run", "--profile", "smoke", "--store", str(tmp_path / "store")]
    run = make_dr_irl(prefect_api).run(*smoke, *(part for option in options for part in ("--set", option)))
    assert run.wait() == 0, run.err
    store = Store(str(tmp_path / "store"), read_only=True)
    artifacts = load_run(store, "latest").artifacts
    assert set(RewardPanel.load(store.fetch(artifacts["panel"])).categories) == set(HARM_CATEGORIES)
    assert store.manifest(artifacts["grpo"]).inputs["reward/single"] == artifacts["reward/single"].fingerprint
