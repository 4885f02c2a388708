"""Every rung gives the states, the log-probabilities and the gradients of the model's own forward pass."""

from pathlib import Path

import pytest
import torch
from families import tiny_causal_lm
from peft import PeftModel

from dr_irl.language.adapters import add_policy_adapter, share_weights
from dr_irl.language.decoders import open_decoder
from dr_irl.language.load import load_causal_lm
from dr_irl.language.logprobs import answer_logprobs
from dr_irl.language.own_head import OwnHead, head_of
from dr_irl.language.packing import Bundle, Packed, pack
from dr_irl.language.route import Scoring

PREAMBLE = [5, 6, 7]
BUNDLES = [
    Bundle([*PREAMBLE, 40, 41, 42], [[50, 51, 52, 9], [60], [], [70, 71]]),
    Bundle([*PREAMBLE, *range(90, 110)], [[80, 81, 82, 83, 84, 85], [86]]),  # longer than a window of 8
]
PLAIN = [(list(bundle.prompt), list(answer)) for bundle in BUNDLES for answer in bundle.answers]
FAMILIES = ["llama", "gemma2", "gemma3_text", "mistral", "granite", "cohere", "gpt_oss", "llama4_text"]


@pytest.fixture(params=FAMILIES)
def policy(request: pytest.FixtureRequest) -> PeftModel:
    """A model with an adapter on its two topmost layers that changes something."""
    generator = torch.Generator().manual_seed(0)
    adapted = add_policy_adapter(
        tiny_causal_lm(request.param),
        rank=2,
        adapted_layers=2,
        target_modules=["q_proj", "v_proj", "o_proj"],
        generator=generator,
    )
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1, generator=generator)
    return adapted


@pytest.fixture(scope="module", params=[0, len(PREAMBLE)])
def packed(request: pytest.FixtureRequest) -> Packed:
    return pack(BUNDLES, pad=0, shared=request.param)


def gradients(policy: PeftModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    trained = {name: p for name, p in policy.named_parameters() if p.requires_grad}
    return dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))


def own_logprobs(policy: PeftModel, prompt: list[int], answer: list[int]) -> torch.Tensor:
    logits = policy(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(dim=-1)[range(len(answer)), answer]


@pytest.mark.parametrize("rung", list(Scoring))
def test_logprobs_and_gradients_are_those_of_the_own_forward_pass(
    policy: PeftModel, packed: Packed, rung: Scoring
) -> None:
    decoder = open_decoder(policy, upper_layers=2, rung=rung)
    found = answer_logprobs(decoder.states(decoder.features(packed), packed), head_of(policy), packed).logprobs
    weights = torch.arange(1.0, len(PLAIN) + 1)  # different per answer, so that mixed-up answers show
    expected = [own_logprobs(policy, *pair) for pair in PLAIN]
    for row, theirs in enumerate(expected):
        torch.testing.assert_close(found[row, : len(theirs)], theirs, atol=1e-4, rtol=1e-5)
    ours = gradients(policy, (found.sum(dim=1) * weights).sum())
    own = gradients(policy, sum((e.sum() * w for e, w in zip(expected, weights, strict=True)), torch.zeros(())))
    scale = max(float(g.abs().max()) for g in own.values())
    for name, gradient in own.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-4 * scale, rtol=1e-3)


@pytest.mark.parametrize("rung", [Scoring.ROWS, Scoring.ALONE])
def test_last_states_are_at_the_last_tokens(packed: Packed, rung: Scoring) -> None:
    model = tiny_causal_lm("bloom")
    decoder = open_decoder(model, upper_layers=1, rung=rung)
    last = decoder.states(decoder.features(packed), packed).flatten(0, 1)[packed.last]
    for row, (prompt, answer) in enumerate(PLAIN):
        own = model.base_model(input_ids=torch.tensor([prompt + answer])).last_hidden_state[0, -1]
        torch.testing.assert_close(last[row], own, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("rung", [Scoring.ROWS, Scoring.ALONE])
def test_whole_rows_keep_no_features(packed: Packed, rung: Scoring) -> None:
    features = open_decoder(tiny_causal_lm("bloom"), upper_layers=1, rung=rung).features(packed)
    assert features.shape == (*packed.ids.shape, 0)


@pytest.mark.parametrize("family", ["gemma2", "granite", "cohere", "opt", "llama4_text"])
def test_the_head_is_what_forward_does_after_the_decoder(family: str) -> None:
    model = tiny_causal_lm(family)
    output = model(input_ids=torch.tensor([[5, 6, 7]]), output_hidden_states=True)
    states = output.hidden_states[-1][0]
    torch.testing.assert_close(head_of(model)(states), output.logits[0])


@pytest.mark.parametrize(("family", "plain"), [("llama", True), ("gemma2", False), ("granite", False)])
def test_a_head_that_does_nothing_else_is_the_plain_one(family: str, plain: bool) -> None:
    model = tiny_causal_lm(family)
    assert head_of(model) is model.get_output_embeddings() if plain else isinstance(head_of(model), OwnHead)


@pytest.mark.parametrize("family", ["gemma2", "granite", "cohere", "llama"])
@pytest.mark.parametrize("shared", [False, True])
def test_who_is_given_the_linear_head_of_a_loaded_model_scores_as_the_model_does(
    family: str, shared: bool, tmp_path: Path
) -> None:
    tiny_causal_lm(family).save_pretrained(tmp_path)
    model = load_causal_lm(str(tmp_path), dtype=torch.float32)
    model = share_weights(model) if shared else model
    packed = pack([Bundle([5, 6, 40], [[50, 51, 52]])], pad=0, shared=1)
    decoder = open_decoder(model, upper_layers=1)
    states = decoder.states(decoder.features(packed), packed)
    found = answer_logprobs(states, model.get_output_embeddings(), packed).logprobs[0]
    logits = model(input_ids=torch.tensor([[5, 6, 40, 50, 51, 52]])).logits[0, 2:-1]
    torch.testing.assert_close(found, logits.log_softmax(dim=-1)[range(3), [50, 51, 52]], atol=1e-4, rtol=1e-5)
