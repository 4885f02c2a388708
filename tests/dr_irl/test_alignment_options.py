"""The GRPO loop's options, and what it does with batches that nothing can be learnt from."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from grpo_loop import (
    EMA,
    LETTER,
    OPTIONS,
    PROMPTS,
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
from torch import Tensor

from dr_irl.categories import BENIGN
from dr_irl.errors import CollapseError, DataError, DivergenceError
from dr_irl.language.sampling import Sample
from dr_irl.policy.options import GrpoOptions
from dr_irl.policy.rollouts import TrainingPrompt


def test_reward_that_is_not_a_number_stops_the_run() -> None:
    with pytest.raises(DivergenceError, match=r"stopped at step 0: 20 of 20 rewards are not finite, of benign, insult"):
        Run(ConstantPanel(float("nan"))).go()


def test_batch_whose_rewards_are_not_finite_is_kept() -> None:
    kept = Kept()
    with pytest.raises(DivergenceError, match="its batch was kept by the test"):
        Run(ConstantPanel(float("inf"))).go(kept)
    assert kept.failed is not None
    assert [group["prompt_id"] for group in kept.failed["groups"]] == ["i", "p", "b"]
    assert kept.failed["rewards"] == ["inf"] * 20


def test_weights_stay_as_they_were_when_rewards_are_not_finite() -> None:
    run = Run(ConstantPanel(float("inf")))
    with pytest.raises(DivergenceError):
        run.go()
    assert all(torch.equal(a, b) for a, b in zip(run.start, run.weights(), strict=True))


def test_gradient_that_is_not_finite_leaves_the_weights_and_keeps_the_batch() -> None:
    kept = Kept()
    run = Run(LetterPanel(), OPTIONS, RULE.model_copy(update={"clip": (float("inf"), float("inf"))}))
    with pytest.raises(DivergenceError, match="step 0: the gradient of the policy's loss is not finite"):
        run.go(kept)
    assert all(torch.equal(a, b) for a, b in zip(run.start, run.weights(), strict=True))
    assert kept.failed is not None and len(kept.failed["scaling"]) == 3


def test_batch_without_one_of_the_categories_is_scaled_like_any_other() -> None:
    options = grpo(prompts_per_step=2, benign_ratio=0.5)  # categories take turns: one each step
    assert [r.category for r in Run(LetterPanel(), options).go().scaling] == [
        "insult",
        BENIGN,
        "physical_harm",
        BENIGN,
    ]


def test_identical_completions_teach_nothing_and_are_counted() -> None:
    run = Run(LetterPanel(), grpo(kl_weight=0.0))
    run.sampler = RepeatingSampler()
    assert logged(run.go(), "zero_variance") == [1.0, 1.0]
    assert all(torch.equal(a, b) for a, b in zip(run.start, run.weights(), strict=True))


class RepeatingSampler:
    """All completions of all prompts are one."""

    def sample(self, prompts: Sequence[str], *, per_prompt: int, generator: torch.Generator) -> list[list[Sample]]:
        return [[Sample((40, 2), LETTER, False)] * per_prompt for _ in prompts]


def test_end_token_that_never_comes_ends_at_the_limit() -> None:
    run = Run(LetterPanel(), grpo(steps=1))
    run.sampler = CutSampler()
    assert logged(run.go(), "truncated") == [1.0]


class FlatInsults(LetterPanel):
    """Tells no answer to the first insult from another."""

    def score(self, categories: Sequence[str], prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
        rewards = super().score(categories, prompts, responses)
        return torch.where(torch.tensor([prompt == "mock him" for prompt in prompts]), 0.5, rewards)


TWO_INSULTS = [*PROMPTS, TrainingPrompt("i2", "mock her", "insult", "PPP", 0.6, 0.5)]


def batches(options: GrpoOptions, prompts: Sequence[TrainingPrompt]) -> list[list[str]]:
    state = Run(FlatInsults(), options).go(prompts=prompts)
    return [[r.prompt_id for r in state.scaling if r.step == step] for step in range(options.steps)]


def test_group_of_equal_rewards_is_replaced_by_another_of_its_category() -> None:
    assert [batch[0] for batch in batches(grpo(group_size=12, top_up=1), TWO_INSULTS)] == ["i2", "i2"]


def test_replaced_groups_are_counted() -> None:
    run = Run(FlatInsults(), grpo(group_size=12, top_up=1))
    assert logged(run.go(prompts=TWO_INSULTS), "topped_up").count(1.0) == 1


def test_group_of_equal_rewards_stays_where_its_category_has_no_other() -> None:
    assert [batch[0] for batch in batches(grpo(group_size=12, top_up=3), PROMPTS)] == ["i", "i"]


def test_collapse_stops_the_run_after_the_step_where_that_is_asked() -> None:
    kept = Kept()
    run = Run(LetterPanel(), grpo(alarm="stop", max_commonest_prefix=0.5))
    run.sampler = RepeatingSampler()
    with pytest.raises(CollapseError, match="step 0: 100% of the completions to harmful prompts begin"):
        run.go(kept)
    snapshot = kept.load()
    assert snapshot is not None and snapshot.step == 1


def test_collapse_is_warned_of_where_that_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    run = Run(LetterPanel(), grpo(alarm="warn", max_commonest_prefix=0.5))
    run.sampler = RepeatingSampler()
    run.go()
    assert [record.getMessage()[:14] for record in caplog.records] == ["GRPO step 0: 1", "GRPO step 1: 1"]


def letters_missing(completions: Sequence[str], demonstrations: Sequence[str]) -> list[float]:
    """Distance: how much of a completion is other letters."""
    assert all(set(text) == {LETTER} for text in demonstrations)
    return [1 - text.count(LETTER) / max(1, len(text)) for text in completions]


def test_own_completions_are_measured_at_every_step() -> None:
    run = Run(LetterPanel(), distances=letters_missing)
    run.sampler = CutSampler()  # half of the completions are the letter
    state = run.go()
    assert state.distances == {"i": 0.5, "p": 0.5}


def test_prompt_is_as_hard_as_its_own_completions_say() -> None:
    insults = [*PROMPTS, TrainingPrompt("i2", "mock her", "insult", "PPP", 0.9, 0.5)]
    run = Run(LetterPanel(), grpo(steps=1), distances=letters_missing)
    run.sampler = CutSampler()
    [found] = [r for r in run.go(prompts=insults).scaling if r.category == "insult"]
    # Its own distance is 0.5 now; of the other insult we know 0.6 or 0.9, from the reference completions.
    other = 0.9 if found.prompt_id == "i" else 0.6
    mine, mean = 1 / (1 + torch.tensor([-0.5, -(0.5 + other) / 2]).exp())
    assert found.data == pytest.approx(float(mine / mean))


@pytest.mark.parametrize("stop_after", [1, 3])
def test_resumed_run_remembers_what_it_measured(stop_after: int) -> None:
    def run() -> Run:
        return Run(LetterPanel(), RESUMED, EMA, distances=letters_missing)

    whole, kept = run(), Kept(stop_after)
    whole.go()
    with pytest.raises(KilledError):
        run().go(kept)
    again = run()
    again.go(kept)
    assert history(again.loop.state) == history(whole.loop.state)


def test_later_minibatches_of_a_step_are_off_policy() -> None:
    """The second part of a batch meets a policy that has moved: its divergence from the start is no longer 0."""
    once, twice = (logged(Run(LetterPanel(), grpo(steps=1, minibatches=n)).go(), "kl")[0] for n in (1, 3))
    assert once == pytest.approx(0.0, abs=1e-7) and twice > 1e-6


@pytest.mark.parametrize("loss_type", ["dr_grpo", "dapo"])
def test_every_loss_type_moves_the_policy(loss_type: str) -> None:
    run = Run(LetterPanel(), grpo(loss_type=loss_type))
    run.go()
    assert not any(torch.equal(a, b) for a, b in zip(run.start, run.weights(), strict=True))


def test_prompt_beyond_the_context_is_refused() -> None:
    prompts = [replace(PROMPTS[0], text="mock " * 2000), *PROMPTS[1:]]
    with pytest.raises(DataError, match=r"a prompt of \d+ tokens and an answer of up to 12 exceed the model's context"):
        Run(LetterPanel()).go(prompts=prompts)
