"""The GRPO loop: what it learns, logs, and goes on from."""

import math

import pytest
import torch
from grpo_loop import (
    EMA,
    RESUMED,
    RULE,
    ConstantPanel,
    CutSampler,
    LetterPanel,
    Run,
    grpo,
    history,
    logged,
)
from kept import Kept, KilledError

from dr_irl.categories import BENIGN
from dr_irl.errors import DataError


@pytest.fixture(scope="module")
def whole() -> Run:
    """A run that was never stopped."""
    run = Run(LetterPanel(), RESUMED, EMA)
    run.go()
    return run


def resumed(kept: Kept) -> Run:
    """A run that was stopped, and started again with nothing but what was kept."""
    with pytest.raises(KilledError):
        Run(LetterPanel(), RESUMED, EMA).go(kept)
    run = Run(LetterPanel(), RESUMED, EMA)
    run.go(kept)
    return run


@pytest.fixture(scope="module")
def two_steps() -> Run:
    run = Run(LetterPanel())
    run.go()
    return run


def test_rewarded_letter_becomes_more_frequent() -> None:
    rewards = logged(Run(LetterPanel(), grpo(steps=16, group_size=16, kl_weight=0.0)).go(), "reward")
    assert rewards[0] < 0.02 and sum(rewards[-4:]) / 4 > 0.1


def test_kl_is_zero_at_the_first_step(two_steps: Run) -> None:
    assert logged(two_steps.loop.state, "kl")[0] == pytest.approx(0.0, abs=1e-7)


def test_kl_is_positive_once_the_policy_has_moved(two_steps: Run) -> None:
    assert logged(two_steps.loop.state, "kl")[1] > 1e-6


def test_same_seed_gives_the_same_bits(two_steps: Run) -> None:
    again = Run(LetterPanel())
    again.go()
    assert all(torch.equal(a, b) for a, b in zip(two_steps.weights(), again.weights(), strict=True))


def test_policy_moves(two_steps: Run) -> None:
    assert not any(torch.equal(a, b) for a, b in zip(two_steps.start, two_steps.weights(), strict=True))


def test_every_step_is_reported(two_steps: Run) -> None:
    assert [sorted(report) for report in two_steps.reports] == [["benign_refusal", "kl", "refusal", "reward"]] * 2


def test_headline_reward_is_that_of_harmful_prompts(two_steps: Run) -> None:
    state = two_steps.loop.state
    own = [(a + b) / 2 for a, b in zip(*(logged(state, "reward", c) for c in ("insult", "physical_harm")), strict=True)]
    assert logged(state, "reward") == pytest.approx(own)


def test_logged_factor_is_the_product_of_the_logged_parts(two_steps: Run) -> None:
    assert all(r.alpha == pytest.approx(r.data * r.model) for r in two_steps.loop.state.scaling)


def test_logged_data_hardness_is_that_of_the_prompt(two_steps: Run) -> None:
    one, half = 1 / (1 + torch.tensor([-0.6, -0.5]).exp())
    found = [r.data for r in two_steps.loop.state.scaling if r.prompt_id == "i"]
    assert found == pytest.approx([float(one / half)] * 2)


def test_benign_prompts_are_not_scaled(two_steps: Run) -> None:
    benign = [r for r in two_steps.loop.state.scaling if r.category == BENIGN]
    assert {r.alpha for r in benign} == {1.0} and all(math.isnan(r.gap) for r in benign)


def test_logged_factor_is_the_one_that_scaled_the_gradient() -> None:
    """Without benign prompts and KL the loss is linear in alpha, and so is its gradient before clipping."""
    options = grpo(steps=1, benign_ratio=0.0, kl_weight=0.0)
    once, twice = (Run(LetterPanel(), options, RULE.model_copy(update={"clip": (a, a)})).go() for a in (1.0, 2.0))
    assert ({r.alpha for r in once.scaling}, {r.alpha for r in twice.scaling}) == ({1.0}, {2.0})
    assert logged(twice, "grad_norm")[0] == pytest.approx(2 * logged(once, "grad_norm")[0], rel=1e-4)


def test_groups_of_equal_rewards_are_counted() -> None:
    assert logged(Run(ConstantPanel(0.5)).go(), "zero_variance") == [1.0, 1.0]


def test_groups_of_equal_rewards_teach_nothing() -> None:
    run = Run(ConstantPanel(0.5), grpo(kl_weight=0.0))
    run.go()
    assert all(torch.equal(a, b) for a, b in zip(run.start, run.weights(), strict=True))


def test_masked_truncated_completions_teach_nothing() -> None:
    run = Run(LetterPanel(), grpo(steps=1, kl_weight=0.0, mask_truncated=True))
    run.sampler = CutSampler()
    assert logged(run.go(), "grad_norm") == [0.0]


def test_unmasked_truncated_completions_teach() -> None:
    run = Run(LetterPanel(), grpo(steps=1, kl_weight=0.0))
    run.sampler = CutSampler()
    assert logged(run.go(), "grad_norm")[0] > 0


def test_micro_batches_do_not_change_the_gradient() -> None:
    whole, split = (Run(LetterPanel(), grpo(steps=1, micro_batch_tokens=n)).go() for n in (4096, 1))
    assert logged(split, "grad_norm")[0] == pytest.approx(logged(whole, "grad_norm")[0], rel=1e-4)


@pytest.mark.parametrize(("stop_after", "every"), [(1, 1), (2, 1), (4, 1), (3, 2), (1, 2)])
def test_resumed_run_gives_the_same_bits(whole: Run, stop_after: int, every: int) -> None:
    found = resumed(Kept(stop_after, every))
    assert all(torch.equal(a, b) for a, b in zip(whole.weights(), found.weights(), strict=True))


@pytest.mark.parametrize(("stop_after", "every"), [(1, 1), (4, 1), (3, 2)])
def test_resumed_run_logs_the_same(whole: Run, stop_after: int, every: int) -> None:
    assert history(resumed(Kept(stop_after, every)).loop.state) == history(whole.loop.state)


def test_resumed_run_reports_only_what_it_does_itself(whole: Run) -> None:
    assert resumed(Kept(3)).reports == whole.reports[3:]


def test_step_is_kept_before_it_is_reported() -> None:
    kept, run = Kept(), Run(LetterPanel())
    run.report = lambda readings: pytest.fail("stopped by who listens")
    with pytest.raises(pytest.fail.Exception):
        run.go(kept)
    snapshot = kept.load()
    assert snapshot is not None and snapshot.step == 1


def test_checkpoint_of_another_policy_is_refused() -> None:
    kept = Kept(1)
    with pytest.raises(KilledError):
        Run(LetterPanel()).go(kept)
    with pytest.raises(
        DataError, match=r"step 1 is of another model: parameter/.* float32 \(4, 16\) instead of float32 \(2, 16\)"
    ):
        Run(LetterPanel(), rank=2).go(kept)
