"""Training one reward model on an easy planted set."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from kept import Kept, KilledError
from peft import PeftModel
from transformers import PreTrainedModel

from dr_irl.errors import DataError, DivergenceError
from dr_irl.language.adapters import share_weights
from dr_irl.language.load import load_reward_backbone, load_tokenizer
from dr_irl.reward.model import RewardBackbone, add_reward_adapter
from dr_irl.reward.options import RewardOptions
from dr_irl.reward.outcome import Calibration, Epoch, RewardTraining, calibrate
from dr_irl.reward.pairs import PreferenceRow
from dr_irl.reward.train import prepare_rows, train_reward_model, warm_up_then_decay
from dr_irl.snapshot import NO_CHECKPOINTS, Checkpoints, Snapshot

fitted = partial(
    RewardOptions,
    depth=2,
    adapted_layers=2,
    learning_rate=0.03,
    epochs=12,
    patience=12,
    prompts_per_step=4,
    validation_share=0.25,
)
OPTIONS = fitted()
# The demonstration differs from its rivals by one character.
PLANTED = [PreferenceRow(f"question {i}", "answer a", ("answer b", "answer c"), ()) for i in range(16)]
# Of 13 rows 10 train, so that the last batch of an epoch is smaller; lengths differ, so padding does too. Three rivals
# are drawn from, and one was chosen by us.
UNEVEN = [
    PreferenceRow(f"question {i} " + "x" * i, "answer a" + "y" * (i % 5), ("answer b", "answer c", "a"), ("no",))
    for i in range(13)
]
ROUNDS = fitted(rounds=2, draws=2, epochs=2)


@pytest.fixture(scope="module")
def base() -> PreTrainedModel:
    return load_reward_backbone("bundled:tiny-random-lm", depth=2, dtype=torch.float32)


@pytest.fixture(scope="module")
def whole(base: PreTrainedModel) -> tuple[PeftModel, RewardTraining]:
    """Training that was never stopped: 2 rounds of 2 epochs of 3 steps."""
    model = adapter(base)
    return model, train(model, UNEVEN, options=ROUNDS)


def resumed(base: PreTrainedModel, kept: Kept) -> tuple[PeftModel, RewardTraining]:
    """Training that was stopped, and started again with nothing but what was kept."""
    with pytest.raises(KilledError):
        train(adapter(base), UNEVEN, options=ROUNDS, checkpoints=kept)
    model = adapter(base)
    return model, train(model, UNEVEN, options=ROUNDS, checkpoints=kept)


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
    options: RewardOptions = OPTIONS,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> RewardTraining:
    return train_reward_model(
        scored(model),
        rows,
        options,
        generator=torch.Generator().manual_seed(7),
        report=lambda loss: None,
        checkpoints=checkpoints,
    )


def scored(model: PeftModel) -> RewardBackbone:
    return RewardBackbone(model, load_tokenizer("bundled:tiny-random-lm"), adapted_layers=2, limit=32)


def weights(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def poison(model: PeftModel) -> None:
    """Make every reward NaN."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and ".score." in name:
                parameter.fill_(float("nan"))


@pytest.mark.parametrize("name", ["ml_irl", "pairwise", "minimax"])
def test_planted_preference_is_learnt(base: PreTrainedModel, name: str) -> None:
    found = train(adapter(base), PLANTED, options=fitted(objective=name))
    assert [gap > 0 for gap in found.gaps] == [True] * 8  # 4 validation rows with 2 rivals each


def test_first_loss_is_that_of_equal_rewards(base: PreTrainedModel) -> None:
    assert train(adapter(base), PLANTED, options=fitted(epochs=1)).losses[0] == pytest.approx(
        torch.tensor(3.0).log().item()
    )


def test_loss_falls(base: PreTrainedModel) -> None:
    losses = train(adapter(base), PLANTED).losses
    assert losses[-1] < 0.5 * losses[0]


def test_every_step_is_reported(base: PreTrainedModel) -> None:
    assert len(train(adapter(base), PLANTED, options=fitted(epochs=2)).losses) == 2 * 3  # 12 training rows, 4 per step


def test_learning_curve_has_a_point_per_epoch_of_every_round(whole: tuple[PeftModel, RewardTraining]) -> None:
    curve = whole[1].curve
    assert [(point.round, point.step) for point in curve] == [(0, 3), (0, 6), (1, 9), (1, 12)]
    assert [point.loss for point in curve] == pytest.approx(
        [sum(whole[1].losses[at : at + 3]) / 3 for at in (0, 3, 6, 9)]
    )


def test_kept_weights_are_those_of_the_best_epoch(
    base: PreTrainedModel, whole: tuple[PeftModel, RewardTraining]
) -> None:
    model, found = whole
    best = max(found.curve, key=lambda point: (point.accuracy, -point.validation_loss))
    assert found.curve[found.best] == best
    # Training again, and ending with that epoch, gives the same weights: nothing later is in them.
    again = adapter(base)
    kept = Kept(best.step)
    with pytest.raises(KilledError):
        train(again, UNEVEN, options=ROUNDS, checkpoints=kept)
    assert all(torch.equal(value, weights(model)[name]) for name, value in weights(again).items())


def test_epoch_is_better_by_accuracy_and_then_by_loss() -> None:
    def point(accuracy: float, loss: float) -> Epoch:
        return Epoch(step=1, round=0, loss=0.0, validation_loss=loss, accuracy=accuracy, gap=0.0)

    assert point(0.9, 2.0).better_than(point(0.8, 1.0))
    assert point(0.9, 1.0).better_than(point(0.9, 2.0))
    assert not point(0.9, 1.0).better_than(point(0.9, 1.0))
    assert point(0.1, 9.0).better_than(None)


def test_round_without_progress_ends_early_and_the_next_begins(base: PreTrainedModel) -> None:
    # A learning rate of nothing: the first epoch is the best, the second brings nothing.
    options = fitted(learning_rate=1e-12, rounds=2, epochs=5, patience=2)
    curve = train(adapter(base), PLANTED, options=options).curve
    assert [point.round for point in curve] in ([0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1])


def test_later_round_takes_the_completions_that_the_reward_prefers(base: PreTrainedModel) -> None:
    """Of three rivals one looks like the demonstration; it alone should be left in the second round."""
    rows = [PreferenceRow(f"question {i}", "answer a", ("zzzzzzzz", "answer a", "qqqqqqqq"), ()) for i in range(16)]
    options = fitted(beta=0.05, rounds=2, draws=4, epochs=6)
    kept = Kept(None, every=1)
    train(adapter(base), rows, options=options, checkpoints=kept)
    assert kept.data is not None
    picks = Snapshot.from_bytes(kept.data).state["picks"]
    assert {pick for row in picks for pick in row} == {1}


def test_first_round_takes_the_first_completions_drawn(base: PreTrainedModel) -> None:
    kept = Kept(None, every=1)
    train(adapter(base), UNEVEN, options=fitted(draws=2, epochs=1), checkpoints=kept)
    assert kept.data is not None
    state = Snapshot.from_bytes(kept.data).state
    assert state["picks"] == [[0, 1]] * 13 and state["log_weights"] == [[0.0, 0.0]] * 13


@pytest.mark.parametrize("labels", [("insult", "physical_harm"), ("physical_harm", "insult")])
def test_models_trained_together_are_those_trained_alone(base: PreTrainedModel, labels: tuple[str, str]) -> None:
    """Adapters of one resident backbone, whose lower layers saw the texts of all in one pass."""

    def fresh(model: PreTrainedModel | PeftModel, label: str) -> PeftModel:
        return add_reward_adapter(
            model,
            label,
            rank=4,
            adapted_layers=2,
            target_modules=["v_proj"],
            generator=torch.Generator().manual_seed(len(label)),
        )

    def fit(backbone: RewardBackbone, rows: list[PreferenceRow], **options: object) -> RewardTraining:
        return train_reward_model(
            backbone, rows, fitted(epochs=2), generator=torch.Generator().manual_seed(7), report=print, **options
        )

    rows = {"insult": UNEVEN, "physical_harm": UNEVEN[::-1]}
    alone = {label: fit(scored(fresh(share_weights(base), label)), rows[label]) for label in labels}
    model = share_weights(base)
    for label in labels:
        model = fresh(model, label)
    together = scored(model)
    prepared = prepare_rows(together, [row for label in labels for row in rows[label]])
    for number, label in enumerate(labels):
        together.model.set_adapter(label)
        own = prepared[number * 13 : (number + 1) * 13]
        assert fit(together, rows[label], prepared=own).losses == pytest.approx(alone[label].losses, abs=1e-5)


def test_two_threads_give_the_same_bits_as_one_after_the_other(base: PreTrainedModel) -> None:
    def trained(seed: int) -> dict[str, torch.Tensor]:
        train(models[seed], PLANTED, options=fitted(epochs=3))
        return weights(models[seed])

    models = {seed: adapter(base, seed) for seed in (1, 2)}
    apart = [trained(seed) for seed in (1, 2)]
    models = {seed: adapter(base, seed) for seed in (1, 2)}
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(trained, (1, 2)))
    for one, two in zip(apart, together, strict=True):
        assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_frozen_weights_stay_as_they_were(base: PreTrainedModel) -> None:
    before = {name: value.clone() for name, value in base.state_dict().items()}
    train(adapter(base), PLANTED, options=fitted(epochs=2))
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


def test_too_few_rows_are_refused(base: PreTrainedModel) -> None:
    with pytest.raises(DataError, match="at least 4 rows, and there are 3"):
        train(adapter(base), PLANTED[:3])


def test_loss_that_is_not_finite_stops_training(base: PreTrainedModel) -> None:
    model = adapter(base)
    poison(model)
    with pytest.raises(DivergenceError, match="nan at step 0"):
        train(model, PLANTED)


def test_batch_that_training_failed_on_is_kept(base: PreTrainedModel) -> None:
    model, kept = adapter(base), Kept()
    poison(model)
    with pytest.raises(DivergenceError, match="its batch was kept by the test"):
        train(model, PLANTED, checkpoints=kept)
    assert kept.failed is not None
    assert kept.failed["step"] == 0 and kept.failed["rewards"] == ["nan"] * 12
    assert [row["demonstration"] for row in kept.failed["rows"]] == ["answer a"] * 4


def test_weights_kept_at_a_failure_are_those_before_it(base: PreTrainedModel) -> None:
    """The third step explodes; a checkpoint holds what two steps learnt, and training goes on from it."""
    model, kept = adapter(base), Kept()
    backbone = scored(model)
    plain, calls = backbone.rewards, iter(range(1000))
    backbone.rewards = lambda rows: plain(rows) * (float("inf") if next(calls) == 2 else 1.0)
    with pytest.raises(DivergenceError, match="at step 2 "):
        train_reward_model(
            backbone, PLANTED, OPTIONS, generator=torch.Generator().manual_seed(7), report=print, checkpoints=kept
        )
    again = adapter(base)
    train(again, PLANTED, checkpoints=kept)
    whole = adapter(base)
    train(whole, PLANTED)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(whole).items())


def test_rows_with_different_numbers_of_completions_are_refused(base: PreTrainedModel) -> None:
    rows = [*PLANTED, PreferenceRow("question", "answer a", ("answer b",), ())]
    with pytest.raises(DataError, match=r"same number of completions .* \[\(1, 0\), \(2, 0\)\]"):
        train(adapter(base), rows)


def test_rows_without_anything_to_compare_with_are_refused(base: PreTrainedModel) -> None:
    with pytest.raises(DataError, match="nothing to compare"):
        train(adapter(base), [PreferenceRow(f"question {i}", "answer a", (), ()) for i in range(5)])


def test_contrasts_alone_are_enough(base: PreTrainedModel) -> None:
    rows = [PreferenceRow(f"question {i}", "answer a", (), ("answer b", "answer c")) for i in range(16)]
    assert [gap > 0 for gap in train(adapter(base), rows).gaps] == [True] * 8


def test_calibrated_rewards_have_mean_zero_and_deviation_one() -> None:
    rewards = torch.tensor([1.0, 4.0, -2.0, 0.5])
    found = calibrate(rewards)
    calibrated = (rewards - found.mean) / found.std
    assert (calibrated.mean().item(), calibrated.std().item()) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_calibration_of_training_is_that_of_its_validation_rows(base: PreTrainedModel) -> None:
    model = adapter(base)
    found = train(model, PLANTED).calibration
    held_out = [PLANTED[i] for i in torch.randperm(16, generator=torch.Generator().manual_seed(7))[:4]]
    backbone = scored(model)
    rewards = torch.cat(backbone.rewards_in_passes(prepare_rows(backbone, held_out)))
    expected = (rewards.mean().item(), rewards.std().item())
    assert (found.mean, found.std) == pytest.approx(expected, rel=1e-4)


def test_constant_rewards_are_not_blown_up() -> None:
    assert calibrate(torch.tensor([2.0, 2.0])) == Calibration(mean=2.0, std=1e-3)


def test_learning_rate_rises_and_falls() -> None:
    # 20 steps: 2 to warm up, 18 to fall
    assert [warm_up_then_decay(step, 20) for step in (0, 1, 2, 11, 20)] == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])


def test_single_step_learns_at_full_rate() -> None:
    assert warm_up_then_decay(0, 1) == 1.0


# 3 steps are one epoch, 6 a round
@pytest.mark.parametrize(("stop_after", "every"), [(1, 1), (3, 1), (6, 1), (7, 1), (12, 1), (8, 3), (2, 3)])
def test_resumed_training_gives_the_same_bits(
    base: PreTrainedModel, whole: tuple[PeftModel, RewardTraining], stop_after: int, every: int
) -> None:
    model, _ = resumed(base, Kept(stop_after, every))
    pairs = zip(whole[0].named_parameters(), model.named_parameters(), strict=True)
    assert all(name == other and torch.equal(one, two) for (name, one), (other, two) in pairs)


@pytest.mark.parametrize(("stop_after", "every"), [(1, 1), (6, 1), (9, 1), (8, 3)])
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
