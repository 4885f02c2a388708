"""A world with a known reward: does a real reward model learn it from demonstrations alone?

Answers are six words. The reference policy is a table, the expert is that table tilted by the planted reward: the
partition function is a sum of six terms.
"""

from dataclasses import dataclass

import pytest
import torch
from scipy.stats import permutation_test, spearmanr

from dr_irl.language.load import load_reward_backbone, load_tokenizer
from dr_irl.reward.model import RewardBackbone, add_reward_adapter
from dr_irl.reward.options import RewardOptions
from dr_irl.reward.pairs import PreferenceRow
from dr_irl.reward.train import train_reward_model

ANSWERS = ["yes", "no", "maybe", "never", "today", "later"]
BETA = 0.7
POOL = 4
ROWS = 600
NAME = "bundled:smollm2-135m-instruct"
DEPTH = 2


@dataclass(frozen=True)
class World:
    """Tables over answers: log pi_ref, the planted reward, and what was learnt of it."""

    log_reference: torch.Tensor
    planted: torch.Tensor
    learnt: torch.Tensor


def drawn(log_policy: torch.Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    count = torch.Size(shape).numel()
    return torch.multinomial(log_policy.exp(), count, replacement=True, generator=generator).view(shape)


def options(rounds: int) -> RewardOptions:
    return RewardOptions(
        beta=BETA,
        rounds=rounds,
        draws=POOL if rounds == 1 else POOL // 2,
        depth=DEPTH,
        adapted_layers=1,
        learning_rate=3e-3,
        epochs=6 // rounds,
        patience=6,
        prompts_per_step=32,
        validation_share=0.1,
    )


def learn(rounds: int) -> World:
    generator = torch.Generator().manual_seed(0)
    planted = torch.linspace(-2.0, 2.0, 6)[torch.randperm(6, generator=generator)]
    log_reference = torch.log_softmax(torch.randn(6, generator=generator), dim=0)
    demonstrated = drawn(torch.log_softmax(log_reference + planted / BETA, dim=0), (ROWS,), generator).tolist()
    completed = drawn(log_reference, (ROWS, POOL), generator).tolist()
    rows = [
        PreferenceRow(f"{number}?", ANSWERS[y], tuple(ANSWERS[o] for o in pool), ())
        for number, (y, pool) in enumerate(zip(demonstrated, completed, strict=True))
    ]
    model = add_reward_adapter(
        load_reward_backbone(NAME, depth=DEPTH, dtype=torch.float32),
        "planted",
        rank=16,
        adapted_layers=1,
        target_modules=["v_proj", "o_proj", "up_proj", "down_proj"],
        generator=generator,
    )
    backbone = RewardBackbone(model, load_tokenizer(NAME), adapted_layers=1, limit=16)
    train_reward_model(backbone, rows, options(rounds), generator=generator, report=lambda loss: None)
    unseen = [f"{number}?" for number in range(5000, 5020)]
    rewards = torch.stack(backbone.rewards_in_passes(backbone.prepare(unseen, [ANSWERS] * len(unseen))))
    return World(log_reference, planted, rewards.mean(dim=0))


@pytest.fixture(scope="module", params=[1, 2], ids=["one round", "two rounds"])
def world(request: pytest.FixtureRequest) -> World:
    return learn(request.param)


@pytest.mark.slow
def test_planted_reward_is_recovered_up_to_a_constant(world: World) -> None:
    assert spearmanr(world.planted, world.learnt).statistic > 0.95


@pytest.mark.slow
def test_demonstrations_are_likelier_under_the_learnt_optimal_policy(world: World) -> None:
    """Paired permutation test on demonstrations that training never saw; the partition function is exact."""
    log_optimal = torch.log_softmax(world.log_reference + world.learnt / BETA, dim=0)
    log_expert = torch.log_softmax(world.log_reference + world.planted / BETA, dim=0)
    seen = drawn(log_expert, (200,), torch.Generator().manual_seed(1))
    found = permutation_test(
        (log_optimal[seen].numpy(), world.log_reference[seen].numpy()),
        lambda ours, reference: (ours - reference).mean(),
        permutation_type="samples",
        alternative="greater",
        n_resamples=2000,
        rng=2,
    )
    assert found.pvalue < 0.001
