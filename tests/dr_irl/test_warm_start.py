"""The warm start teaches refusals and holds the policy on ordinary prompts."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from kept import Kept, KilledError
from peft import PeftModel

from dr_irl.categories import BENIGN
from dr_irl.errors import DataError, DivergenceError
from dr_irl.language.adapters import add_policy_adapter
from dr_irl.language.load import load_causal_lm, load_tokenizer
from dr_irl.language.logprobs import symmetric_kl
from dr_irl.language.packing import Packed
from dr_irl.language.sampling import CachedPrefixSampler
from dr_irl.language.split import SplitDecoder
from dr_irl.policy.options import WarmStartOptions
from dr_irl.policy.rollouts import TrainingPrompt
from dr_irl.snapshot import NO_CHECKPOINTS, Checkpoints
from dr_irl.warm_start import warm_start

NAME = "bundled:tiny-random-lm"
HARMFUL = TrainingPrompt("h", "mock him", "insult", "never", 0.5, 0.5)
ORDINARY = TrainingPrompt("o", "hi", BENIGN, "yes", 0.0, 0.0)
start = partial(
    WarmStartOptions,
    steps=20,
    rows_per_step=2,
    learning_rate=0.05,
    max_answer_tokens=32,
    opening_tokens=2,
    content_weight=1.0,
)
OPTIONS = start()
# Lengths differ, so padding does too.
MANY = [
    *(
        replace(HARMFUL, id=f"h{i}", text="mock him" + " so" * i, demonstration="never" + " ever" * (i % 3))
        for i in range(5)
    ),
    *(
        replace(ORDINARY, id=f"o{i}", text="hi" + " there" * i, demonstration="yes" + " sir" * (i % 4))
        for i in range(7)
    ),
]
OWN = {"o1": "my own words", "o3": "other"}
FEW_STEPS = start(steps=6, rows_per_step=4)


def policy(gain: float = 30.0, rank: int = 8) -> PeftModel:
    """The tiny model, sharpened: as it comes, its output is too near uniform to express a preference."""
    model = load_causal_lm(NAME, dtype=torch.float32)
    model.get_decoder().norm.weight.mul_(gain)
    generator = torch.Generator().manual_seed(0)
    return add_policy_adapter(
        model, rank=rank, adapted_layers=2, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], generator=generator
    )


@pytest.fixture(scope="module")
def trained() -> PeftModel:
    model = policy()
    train(model, [HARMFUL, ORDINARY], start(steps=250))
    return model


def train(
    model: PeftModel,
    prompts: list[TrainingPrompt],
    options: WarmStartOptions = OPTIONS,
    own_answers: dict[str, str] | None = None,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
    micro_batch_tokens: int = 512,
) -> list[float]:
    return warm_start(
        model,
        load_tokenizer(NAME),
        prompts,
        options,
        adapted_layers=2,
        micro_batch_tokens=micro_batch_tokens,
        own_answers=own_answers or {},
        generator=torch.Generator().manual_seed(1),
        report=lambda loss: None,
        checkpoints=checkpoints,
    )


@pytest.fixture(scope="module")
def whole() -> tuple[PeftModel, list[float]]:
    """A warm start that was never stopped."""
    model = policy()
    return model, train(model, MANY, FEW_STEPS, OWN)


def resumed(kept: Kept) -> tuple[PeftModel, list[float]]:
    """A warm start that was stopped, and started again with nothing but what was kept."""
    with pytest.raises(KilledError):
        train(policy(), MANY, FEW_STEPS, OWN, kept)
    model = policy()
    return model, train(model, MANY, FEW_STEPS, OWN, kept)


@torch.no_grad()
def token_losses(model: PeftModel, prompt: TrainingPrompt) -> torch.Tensor:
    """Negative log-likelihood of each token of the demonstration, by a plain forward pass."""
    tokenizer = load_tokenizer(NAME)
    question = tokenizer(f"<|user|>{prompt.text}<|end|><|assistant|>")["input_ids"]
    answer = tokenizer(f"{prompt.demonstration}<|end|>")["input_ids"]
    logits = model(input_ids=torch.tensor([question + answer])).logits[0, len(question) - 1 : -1]
    return -logits.log_softmax(dim=-1)[range(len(answer)), answer]


@torch.no_grad()
def first_token(model: PeftModel, prompt: TrainingPrompt) -> torch.Tensor:
    """Log-probabilities of an answer's first token."""
    ids = load_tokenizer(NAME)(f"<|user|>{prompt.text}<|end|><|assistant|>")["input_ids"]
    return model(input_ids=torch.tensor([ids])).logits[:, -1].log_softmax(dim=-1)


def test_first_loss_learns_refusals_and_the_content_of_ordinary_answers() -> None:
    model = policy()
    # before training nothing differs from the untrained policy, so what is held costs nothing
    held, content = token_losses(model, ORDINARY)[:2], token_losses(model, ORDINARY)[2:]
    ordinary = content.sum() / (len(held) + len(content))
    expected = (token_losses(model, HARMFUL).mean() + ordinary) / 2
    assert train(model, [HARMFUL, ORDINARY])[0] == pytest.approx(expected.item(), rel=1e-4)


def test_weights_of_content_and_of_ordinary_prompts_shape_the_loss() -> None:
    model, options = policy(), start(content_weight=0.5, benign_weight=3.0)
    harmful, ordinary = token_losses(model, HARMFUL), token_losses(model, ORDINARY)
    weights = [torch.tensor([1.0, 1.0] + [0.5] * (len(losses) - 2)) for losses in (harmful, ordinary)]
    learnt = (harmful * weights[0]).sum() / weights[0].sum()
    content = 3.0 * (ordinary[2:] * 0.5).sum() / weights[1].sum()
    assert train(model, [HARMFUL, ORDINARY], options)[0] == pytest.approx((learnt + content).item() / 2, rel=1e-4)


def test_a_refusal_opens_as_refusals_do_not_as_its_own_demonstration_does() -> None:
    model, other = policy(), replace(HARMFUL, id="h2", demonstration="sorry, no")  # another first token
    options = start(benign_share=0.0, opening_tokens=1)
    firsts = [token_losses(model, replace(HARMFUL, demonstration=d.demonstration))[0] for d in (HARMFUL, other)]
    contents = [token_losses(model, d)[1:] for d in (HARMFUL, other)]
    expected = [(sum(firsts) / 2 + c.sum()) / (1 + len(c)) for c in contents]
    assert train(model, [HARMFUL, other], options)[0] == pytest.approx(float(sum(expected)) / 2, rel=1e-4)


def test_own_answers_cost_nothing_before_training() -> None:
    model = policy()
    expected = token_losses(model, HARMFUL).mean() / 2
    losses = train(model, [HARMFUL, ORDINARY], own_answers={ORDINARY.id: "my own words"})
    assert losses[0] == pytest.approx(expected.item(), rel=1e-4)


def test_refusals_become_the_likeliest_answers(trained: PeftModel) -> None:
    sampler = CachedPrefixSampler(trained.get_base_model(), load_tokenizer(NAME), max_new_tokens=16, temperature=0.0)
    ((harmful,),) = sampler.sample([HARMFUL.text], per_prompt=1, generator=torch.Generator())
    assert harmful.text == HARMFUL.demonstration


def test_openings_of_ordinary_answers_are_held_where_they_were(trained: PeftModel) -> None:
    moved = [symmetric_kl(first_token(trained, p), first_token(policy(), p)).item() for p in (ORDINARY, HARMFUL)]
    assert moved[0] < 0.1 * moved[1]


def test_rows_cost_the_same_when_they_come_up_again() -> None:
    ordinary = [ORDINARY, replace(ORDINARY, id="p", text="hello there")]
    options = start(learning_rate=1e-12, rows_per_step=3, benign_share=0.67, steps=3)
    losses = train(policy(), [HARMFUL, *ordinary], options, own_answers={"p": "my own words"})
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


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


@pytest.mark.parametrize(("stop_after", "every"), [(1, 1), (3, 1), (6, 1), (5, 2), (1, 2)])
def test_resumed_warm_start_gives_the_same_bits(
    whole: tuple[PeftModel, list[float]], stop_after: int, every: int
) -> None:
    model, _ = resumed(Kept(stop_after, every))
    assert all(torch.equal(one, two) for one, two in zip(whole[0].parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize(("stop_after", "every"), [(1, 1), (6, 1), (5, 2)])
def test_resumed_warm_start_has_the_same_losses(
    whole: tuple[PeftModel, list[float]], stop_after: int, every: int
) -> None:
    assert resumed(Kept(stop_after, every))[1] == whole[1]


def test_rows_that_come_up_are_prepared_once_and_others_never(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[int] = []
    features = SplitDecoder.features

    def counted(self: SplitDecoder, packed: Packed) -> torch.Tensor:
        prepared.append(len(packed.ids))
        return features(self, packed)

    monkeypatch.setattr(SplitDecoder, "features", counted)
    # A step has 2 harmful and 2 ordinary prompts: 2 steps bring up 8 of the 12, and 6 steps all, some of them again.
    for steps, rows in ((2, 8), (6, 12)):
        prepared.clear()
        train(policy(), MANY, start(steps=steps, rows_per_step=4), micro_batch_tokens=256)
        assert sum(prepared) == rows


def test_checkpoint_of_another_policy_is_refused() -> None:
    kept = Kept(1)
    with pytest.raises(KilledError):
        train(policy(), [HARMFUL], checkpoints=kept)
    with pytest.raises(
        DataError, match=r"step 1 is of another model: parameter/.* float32 \(8, 16\) instead of float32 \(2, 16\)"
    ):
        train(policy(rank=2), [HARMFUL], checkpoints=kept)
