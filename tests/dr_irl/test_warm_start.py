"""The warm start raises the likelihood of its demonstrations."""

import math
from dataclasses import replace

import pytest
import torch
from peft import PeftModel

from dr_irl.categories import BENIGN
from dr_irl.errors import DivergenceError
from dr_irl.language.adapters import add_policy_adapter
from dr_irl.language.load import load_causal_lm, load_tokenizer
from dr_irl.language.sampling import CachedPrefixSampler
from dr_irl.policy.rollouts import TrainingPrompt
from dr_irl.warm_start import WarmStart, warm_start

NAME = "bundled:tiny-random-lm"
HARMFUL = TrainingPrompt("h", "mock him", "insult", "never", 0.5, 0.5)
ORDINARY = TrainingPrompt("o", "hi", BENIGN, "yes", 0.0, 0.0)
OPTIONS = WarmStart(
    steps=20, rows_per_step=2, benign_share=0.5, learning_rate=0.05, micro_batch_tokens=512, adapted_layers=2, limit=32
)


def policy(gain: float = 30.0) -> PeftModel:
    """The tiny model, sharpened: as it comes, its output is too near uniform to express a preference."""
    model = load_causal_lm(NAME, dtype=torch.float32)
    model.get_decoder().norm.weight.mul_(gain)
    generator = torch.Generator().manual_seed(0)
    return add_policy_adapter(
        model, rank=8, adapted_layers=2, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], generator=generator
    )


@pytest.fixture(scope="module")
def trained() -> PeftModel:
    model = policy()
    train(model, [HARMFUL, ORDINARY], replace(OPTIONS, steps=250))
    return model


def train(model: PeftModel, prompts: list[TrainingPrompt], options: WarmStart = OPTIONS) -> list[float]:
    generator = torch.Generator().manual_seed(1)
    return warm_start(model, load_tokenizer(NAME), prompts, options, generator=generator, report=lambda loss: None)


@torch.no_grad()
def nll_per_token(model: PeftModel, prompt: TrainingPrompt) -> float:
    """Mean negative log-likelihood of the demonstration's tokens by transformers' own loss."""
    tokenizer = load_tokenizer(NAME)
    question = tokenizer(f"<|user|>{prompt.text}<|end|><|assistant|>")["input_ids"]
    answer = tokenizer(f"{prompt.demonstration}<|end|>")["input_ids"]
    labels = torch.tensor([[-100] * len(question) + answer])
    return model(input_ids=torch.tensor([question + answer]), labels=labels).loss.item()


def test_first_loss_is_the_likelihood_before_training() -> None:
    model = policy()
    expected = (nll_per_token(model, HARMFUL) + nll_per_token(model, ORDINARY)) / 2
    assert train(model, [HARMFUL, ORDINARY])[0] == pytest.approx(expected, rel=1e-4)


def test_demonstrations_become_the_likeliest_answers(trained: PeftModel) -> None:
    model = trained.get_base_model()
    sampler = CachedPrefixSampler(model, load_tokenizer(NAME), max_new_tokens=16, temperature=0.0)
    (harmful,), (ordinary,) = sampler.sample(["mock him", "hi"], per_prompt=1, generator=torch.Generator())
    assert (harmful.text, ordinary.text) == (HARMFUL.demonstration, ORDINARY.demonstration)


@pytest.mark.parametrize("prompt", [HARMFUL, ORDINARY])
def test_demonstrations_become_likely(trained: PeftModel, prompt: TrainingPrompt) -> None:
    assert nll_per_token(trained, prompt) < 0.5


def test_harmful_prompts_alone_fill_every_step() -> None:
    assert len(train(policy(), [HARMFUL])) == OPTIONS.steps


def test_same_seed_gives_the_same_bits() -> None:
    one, two = policy(), policy()
    train(one, [HARMFUL, ORDINARY])
    train(two, [HARMFUL, ORDINARY])
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_loss_that_is_not_finite_stops_training() -> None:
    with pytest.raises(DivergenceError, match="nan at step 0"):
        train(policy(gain=math.nan), [HARMFUL])
