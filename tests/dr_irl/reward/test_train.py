"""Training one reward model on an easy planted set."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from kept import Kept, KilledError
from peft import PeftModel
from transformers import PreTrainedModel

from dr_irl.checkpoint import NO_CHECKPOINTS, Checkpoints
from dr_irl.errors import DataError, DivergenceError
from dr_irl.language.adapters import share_weights
from dr_irl.language.load import load_reward_backbone, load_tokenizer
from dr_irl.reward.model import RewardBackbone, add_reward_adapter
from dr_irl.reward.train import (
    Calibration,
    Objective,
    PreferenceRow,
    RewardTraining,
    calibrate,
    train_reward_model,
    warm_up_then_decay,
)

ML_IRL = Objective("ml_irl", beta=1.0, minimax_penalty=0.1)
# The demonstration differs from its rivals by one character.
PLANTED = [PreferenceRow(f"question {i}", "answer a", ("answer b", "answer c")) for i in range(16)]
# Of 13 rows 10 train, so that the last batch of an epoch is smaller; lengths differ, so padding does too.
UNEVEN = [
    PreferenceRow(f"question {i} " + "x" * i, "answer a" + "y" * (i % 5), ("answer b", "answer c")) for i in range(13)
]
RECORDED = [1.0986123, 1.0879759, 1.0523345, 0.9784412, 0.8639317, 0.8640762, 0.6312709, 0.5723061, 0.5143732]


@pytest.fixture(scope="module")
def base() -> PreTrainedModel:
    return load_reward_backbone("bundled:tiny-random-lm", depth=2, dtype=torch.float32)


@pytest.fixture(scope="module")
def whole(base: PreTrainedModel) -> tuple[PeftModel, RewardTraining]:
    """Training that was never stopped: 9 steps."""
    model = adapter(base)
    return model, train(model, UNEVEN, epochs=3)


def resumed(base: PreTrainedModel, kept: Kept) -> tuple[PeftModel, RewardTraining]:
    """Training that was stopped, and started again with nothing but what was kept."""
    with pytest.raises(KilledError):
        train(adapter(base), UNEVEN, epochs=3, checkpoints=kept)
    model = adapter(base)
    return model, train(model, UNEVEN, epochs=3, checkpoints=kept)


def adapter(base: PreTrainedModel, seed: int = 0, rank: int = 4) -> PeftModel:
    return add_reward_adapter(
        share_weights(base),
        "insult",
        rank=rank,
        adapted_layers=2,
        target_modules=["q_proj", "v_proj"],
        generator=torch.Generator().manual_seed(seed),
    )


def train(
    model: PeftModel,
    rows: list[PreferenceRow],
    *,
    epochs: int = 12,
    objective: Objective = ML_IRL,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> RewardTraining:
    return train_reward_model(
        RewardBackbone(model, load_tokenizer("bundled:tiny-random-lm"), adapted_layers=2, limit=32),
        rows,
        objective=objective,
        learning_rate=0.03,
        epochs=epochs,
        prompts_per_step=4,
        validation_share=0.25,
        generator=torch.Generator().manual_seed(7),
        report=lambda loss: None,
        checkpoints=checkpoints,
    )


@pytest.mark.parametrize("name", ["ml_irl", "pairwise", "minimax"])
def test_planted_preference_is_learnt(base: PreTrainedModel, name: str) -> None:
    found = train(adapter(base), PLANTED, objective=Objective(name, beta=1.0, minimax_penalty=0.1))
    assert found.wins == [True] * 8  # 4 validation rows with 2 rivals each


def test_first_loss_is_that_of_equal_rewards(base: PreTrainedModel) -> None:
    assert train(adapter(base), PLANTED, epochs=1).losses[0] == pytest.approx(torch.tensor(3.0).log().item())


def test_loss_falls(base: PreTrainedModel) -> None:
    losses = train(adapter(base), PLANTED).losses
    assert losses[-1] < 0.5 * losses[0]


def test_batches_are_drawn_in_the_recorded_order(
    base: PreTrainedModel, whole: tuple[PeftModel, RewardTraining]
) -> None:
    """Losses of the loop as it was before it could resume, when each epoch drew its own shuffle as it began."""
    assert whole[1].losses == pytest.approx(RECORDED, rel=1e-5)


def test_every_step_is_reported(base: PreTrainedModel) -> None:
    assert len(train(adapter(base), PLANTED, epochs=2).losses) == 2 * 3  # 12 training rows, 4 per step


def test_two_threads_give_the_same_bits_as_one_after_the_other(base: PreTrainedModel) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        model = models[seed]
        train(model, PLANTED, epochs=3)
        return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    models = {seed: adapter(base, seed) for seed in (1, 2)}
    apart = [weights(seed) for seed in (1, 2)]
    models = {seed: adapter(base, seed) for seed in (1, 2)}
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(weights, (1, 2)))
    for one, two in zip(apart, together, strict=True):
        assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_frozen_weights_stay_as_they_were(base: PreTrainedModel) -> None:
    before = {name: value.clone() for name, value in base.state_dict().items()}
    train(adapter(base), PLANTED, epochs=2)
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


def test_too_few_rows_are_refused(base: PreTrainedModel) -> None:
    with pytest.raises(DataError, match="at least 4 rows, and there are 3"):
        train(adapter(base), PLANTED[:3])


def test_loss_that_is_not_finite_stops_training(base: PreTrainedModel) -> None:
    model = adapter(base)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and ".score." in name:
                parameter.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="nan at step 0"):
        train(model, PLANTED)


def test_calibrated_rewards_have_mean_zero_and_deviation_one() -> None:
    rewards = torch.tensor([1.0, 4.0, -2.0, 0.5])
    found = calibrate(rewards)
    calibrated = (rewards - found.mean) / found.std
    assert (calibrated.mean().item(), calibrated.std().item()) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_calibration_of_training_is_that_of_its_validation_rows(base: PreTrainedModel) -> None:
    model = adapter(base)
    found = train(model, PLANTED).calibration
    backbone = RewardBackbone(model, load_tokenizer("bundled:tiny-random-lm"), adapted_layers=2, limit=32)
    held_out = [PLANTED[i] for i in torch.randperm(16, generator=torch.Generator().manual_seed(7))[:4]]
    bundles = backbone.bundles([r.prompt for r in held_out], [(r.demonstration, *r.negatives) for r in held_out])
    rewards = torch.cat(backbone.rewards_in_passes(bundles, backbone.features(bundles)))
    expected = (rewards.mean().item(), rewards.std().item())
    assert (found.mean, found.std) == pytest.approx(expected, rel=1e-4)


def test_constant_rewards_are_not_blown_up() -> None:
    assert calibrate(torch.tensor([2.0, 2.0])) == Calibration(mean=2.0, std=1e-3)


def test_learning_rate_rises_and_falls() -> None:
    # 20 steps: 2 to warm up, 18 to fall
    assert [warm_up_then_decay(step, 20) for step in (0, 1, 2, 11, 20)] == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])


def test_single_step_learns_at_full_rate() -> None:
    assert warm_up_then_decay(0, 1) == 1.0


# 3 steps are one epoch
@pytest.mark.parametrize(("stop_after", "every"), [(1, 1), (3, 1), (5, 1), (9, 1), (8, 3), (2, 3)])
def test_resumed_training_gives_the_same_bits(
    base: PreTrainedModel, whole: tuple[PeftModel, RewardTraining], stop_after: int, every: int
) -> None:
    model, _ = resumed(base, Kept(stop_after, every))
    pairs = zip(whole[0].named_parameters(), model.named_parameters(), strict=True)
    assert all(name == other and torch.equal(one, two) for (name, one), (other, two) in pairs)


@pytest.mark.parametrize(("stop_after", "every"), [(1, 1), (9, 1), (8, 3)])
def test_resumed_training_leaves_the_same_behind(
    base: PreTrainedModel, whole: tuple[PeftModel, RewardTraining], stop_after: int, every: int
) -> None:
    assert resumed(base, Kept(stop_after, every))[1] == whole[1]


def test_checkpoint_of_another_model_is_refused(base: PreTrainedModel) -> None:
    kept = Kept(1)
    with pytest.raises(KilledError):
        train(adapter(base), PLANTED, checkpoints=kept)
    with pytest.raises(
        DataError, match=r"step 1 is of another model: parameter/.* float32 \(4, 16\) instead of float32 \(2, 16\)"
    ):
        train(adapter(base, rank=2), PLANTED, checkpoints=kept)
