"""The GRPO loop on the tiny model, with a reward that can be read off a text."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from kept import Kept, KilledError
from peft import PeftModel
from torch import Tensor

from dr_irl.alignment import Alignment, Grpo
from dr_irl.categories import BENIGN
from dr_irl.checkpoint import NO_CHECKPOINTS, Checkpoints, trainable_by_name
from dr_irl.errors import DataError, DivergenceError
from dr_irl.language.adapters import add_policy_adapter, merge_adapter_into, share_weights
from dr_irl.language.load import load_causal_lm, load_tokenizer
from dr_irl.language.sampling import CachedPrefixSampler, Sample, Sampler
from dr_irl.policy.readings import LoopState
from dr_irl.policy.rollouts import TrainingPrompt
from dr_irl.reward.panel import RewardPanel
from dr_irl.scaling.dynamic import ScalingRule

NAME = "bundled:tiny-random-lm"
LETTER = "P"
PROMPTS = [
    TrainingPrompt("i", "mock him", "insult", "PPP", 0.6, 0.5),
    TrainingPrompt("p", "hurt him", "physical_harm", "PP", 0.3, 0.5),
    TrainingPrompt("b", "hi", BENIGN, "P", 0.0, 0.0),
]
OPTIONS = Grpo(
    steps=2,
    prompts_per_step=3,
    group_size=6,
    benign_ratio=1 / 3,
    learning_rate=0.02,
    kl_weight=0.01,
    clip=0.2,
    iterations=1,
    temperature=1.0,
    mask_truncated=False,
    zero_variance_tolerance=1e-4,
    advantage_spread="group",
    max_grad_norm=1.0,
    micro_batch_tokens=512,
    adapted_layers=2,
)
RESUMED = replace(OPTIONS, steps=4, iterations=2)
RULE = ScalingRule(
    combine="product",
    kappa=1.0,
    reference="batch",
    ema_decay=0.9,
    tau=1.0,
    sum_weight=0.5,
    clip=None,
    rescale=False,
)
EMA = replace(RULE, reference="ema")


class LetterPanel(RewardPanel):
    """Rewards an answer by its share of one letter; needs no model."""

    def __init__(self) -> None:
        """Hold nothing."""

    def score(self, categories: Sequence[str], prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
        return torch.tensor([text.count(LETTER) / max(1, len(text)) for text in responses])


class ConstantPanel(LetterPanel):
    """Gives every answer the same reward."""

    def __init__(self, value: float) -> None:
        """Give `value`."""
        self.value = value

    def score(self, categories: Sequence[str], prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
        return torch.full((len(responses),), self.value)


class CutSampler:
    """Every completion ran into the length limit, and half of them earn a reward."""

    def sample(self, prompts: Sequence[str], *, per_prompt: int, generator: torch.Generator) -> list[list[Sample]]:
        pair = [Sample((40,), LETTER, True), Sample((50,), "x", True)]
        return [[pair[k % 2] for k in range(per_prompt)] for _ in prompts]


class Run:
    """The loop with all it needs, from the same start every time."""

    def __init__(self, panel: RewardPanel, options: Grpo = OPTIONS, rule: ScalingRule = RULE, *, rank: int = 4) -> None:
        model = load_causal_lm(NAME, dtype=torch.float32)
        # As it comes, the tiny model's output is too near uniform to express a preference.
        model.get_decoder().norm.weight.mul_(10.0)
        tokenizer = load_tokenizer(NAME)
        self.sampled = share_weights(model)
        generator = torch.Generator().manual_seed(0)
        self.policy: PeftModel = add_policy_adapter(
            model, rank=rank, adapted_layers=2, target_modules=["q_proj", "v_proj", "o_proj"], generator=generator
        )
        self.start = self.weights()
        self.loop = Alignment(self.policy, tokenizer, panel, options, rule, seed=5)
        self.sampler: Sampler = CachedPrefixSampler(self.sampled, tokenizer, max_new_tokens=12)
        self.reports: list[dict[str, float]] = []
        self.report: Callable[[dict[str, float]], object] = self.reports.append

    def weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in trainable_by_name(self.policy).values()]

    def go(self, checkpoints: Checkpoints = NO_CHECKPOINTS) -> LoopState:
        return self.loop.run(
            PROMPTS,
            self.sampler,
            refresh_sampler=lambda: merge_adapter_into(self.sampled, self.policy),
            judge=lambda text: LETTER in text,
            report=self.report,
            checkpoints=checkpoints,
        )


def logged(state: LoopState, name: str, category: str = "all") -> list[float]:
    return [record.value for record in state.logged if (record.name, record.category) == (name, category)]


def history(state: LoopState) -> LoopState:
    """Leave out what differs between any two runs: how long they took."""
    return replace(state, logged=[record for record in state.logged if not record.name.startswith("seconds_")])


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
    rewards = logged(Run(LetterPanel(), replace(OPTIONS, steps=16, group_size=16, kl_weight=0.0)).go(), "reward")
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
    assert {r.alpha for r in two_steps.loop.state.scaling if r.category == BENIGN} == {1.0}


def test_logged_factor_is_the_one_that_scaled_the_gradient() -> None:
    """Without benign prompts and KL the loss is linear in alpha, and so is its gradient before clipping."""
    options = replace(OPTIONS, steps=1, benign_ratio=0.0, kl_weight=0.0)
    once, twice = (Run(LetterPanel(), options, replace(RULE, clip=(a, a))).go() for a in (1.0, 2.0))
    assert ({r.alpha for r in once.scaling}, {r.alpha for r in twice.scaling}) == ({1.0}, {2.0})
    assert logged(twice, "grad_norm")[0] == pytest.approx(2 * logged(once, "grad_norm")[0], rel=1e-4)


def test_groups_of_equal_rewards_are_counted() -> None:
    assert logged(Run(ConstantPanel(0.5)).go(), "zero_variance") == [1.0, 1.0]


def test_groups_of_equal_rewards_teach_nothing() -> None:
    run = Run(ConstantPanel(0.5), replace(OPTIONS, kl_weight=0.0))
    run.go()
    assert all(torch.equal(a, b) for a, b in zip(run.start, run.weights(), strict=True))


def test_masked_truncated_completions_teach_nothing() -> None:
    run = Run(LetterPanel(), replace(OPTIONS, steps=1, kl_weight=0.0, mask_truncated=True))
    run.sampler = CutSampler()
    assert logged(run.go(), "grad_norm") == [0.0]


def test_unmasked_truncated_completions_teach() -> None:
    run = Run(LetterPanel(), replace(OPTIONS, steps=1, kl_weight=0.0))
    run.sampler = CutSampler()
    assert logged(run.go(), "grad_norm")[0] > 0


def test_reward_that_is_not_a_number_stops_the_run() -> None:
    with pytest.raises(DivergenceError, match="not finite at step 0"):
        Run(ConstantPanel(float("nan"))).go()


def test_micro_batches_do_not_change_the_gradient() -> None:
    options = replace(OPTIONS, steps=1)
    whole, split = (Run(LetterPanel(), replace(options, micro_batch_tokens=n)).go() for n in (4096, 1))
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
