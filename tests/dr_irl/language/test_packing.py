"""Packed bundles against the plain forward pass of prompt + answer."""

from collections.abc import Iterator

import pytest
import torch
from peft import PeftModel

from dr_irl.language.adapters import add_policy_adapter
from dr_irl.language.load import load_causal_lm
from dr_irl.language.logprobs import answer_logprobs
from dr_irl.language.packing import Bundle, Packed, pack
from dr_irl.language.split import SplitDecoder

# answers of different lengths, an empty one, a bundle with one answer, and rows that need padding
BUNDLES = [
    Bundle([2, 40, 41, 42, 1, 3], [[50, 51, 52, 1], [60], [], [70, 71]]),
    Bundle([2, 90, 1, 3], [[80, 81, 82, 83, 84, 85]]),
]
PLAIN = [(list(bundle.prompt), list(answer)) for bundle in BUNDLES for answer in bundle.answers]


@pytest.fixture(scope="module")
def model() -> PeftModel:
    """The tiny model with an adapter that changes something."""
    generator = torch.Generator().manual_seed(0)
    adapted = add_policy_adapter(
        load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32),
        rank=2,
        adapted_layers=1,
        target_modules=["q_proj", "v_proj", "o_proj"],
        generator=generator,
    )
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.5, generator=generator)
    return adapted


@pytest.fixture(scope="module")
def packed() -> Packed:
    return pack(BUNDLES, pad=0)


@pytest.fixture
def clean(model: PeftModel) -> Iterator[PeftModel]:
    model.zero_grad()
    yield model
    model.zero_grad()


def packed_states(model: PeftModel, packed: Packed) -> torch.Tensor:
    decoder = SplitDecoder(model, upper_layers=1)
    return decoder.states(decoder.features(packed), packed)


def plain_logprobs(model: PeftModel, prompt: list[int], answer: list[int]) -> torch.Tensor:
    logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(dim=-1)[range(len(answer)), answer] if answer else torch.zeros(0)


def test_logprobs_equal_the_plain_forward_pass(model: PeftModel, packed: Packed) -> None:
    found = answer_logprobs(packed_states(model, packed), model.get_output_embeddings(), packed).logprobs
    for row, (prompt, answer) in enumerate(PLAIN):
        expected = plain_logprobs(model, prompt, answer)
        torch.testing.assert_close(found[row, : len(answer)], expected, atol=1e-5, rtol=1e-5)


def test_last_states_equal_the_plain_forward_pass(model: PeftModel, packed: Packed) -> None:
    last = packed_states(model, packed).flatten(0, 1)[packed.last]
    decoder = model.get_base_model().get_decoder()
    for row, (prompt, answer) in enumerate(PLAIN):
        expected = decoder(input_ids=torch.tensor([prompt + answer])).last_hidden_state[0, -1]
        torch.testing.assert_close(last[row], expected, atol=1e-5, rtol=1e-5)


def test_adapter_gradients_equal_the_plain_forward_pass(clean: PeftModel, packed: Packed) -> None:
    weights = torch.arange(1.0, len(PLAIN) + 1)  # different per answer, so that mixed-up answers show
    found = answer_logprobs(packed_states(clean, packed), clean.get_output_embeddings(), packed).logprobs
    (found.sum(dim=1) * weights).sum().backward()
    gradients = {name: p.grad.clone() for name, p in clean.named_parameters() if p.requires_grad}
    clean.zero_grad()
    sum(plain_logprobs(clean, *pair).sum() * weight for pair, weight in zip(PLAIN, weights, strict=True)).backward()
    for name, parameter in clean.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-5)


def test_gradients_of_the_adapter_are_not_all_zero(clean: PeftModel, packed: Packed) -> None:
    answer_logprobs(packed_states(clean, packed), clean.get_output_embeddings(), packed).logprobs.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in clean.parameters() if p.requires_grad)


def test_bundle_counts_its_prompt_once() -> None:
    assert len(BUNDLES[0]) == 6 + 4 + 1 + 0 + 2


def test_answers_keep_their_order(packed: Packed) -> None:
    assert [packed.answer_ids[row][packed.answer[row]].tolist() for row in range(5)] == [a for _, a in PLAIN]


def test_positions_restart_after_the_prompt(packed: Packed) -> None:
    assert packed.position_ids[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 6, 6, 7]


def test_answer_sees_the_prompt_and_itself_only(packed: Packed) -> None:
    # position 12 is the second token of the last answer (11, 12); 10 is the answer before it
    assert packed.visible[0, 0, 12].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 11, 12]


def test_empty_answer_ends_at_the_last_token_of_the_prompt(packed: Packed) -> None:
    assert packed.last.tolist() == [9, 10, 5, 12, 13 + 9]


def test_padding_sees_itself_only(packed: Packed) -> None:
    assert packed.visible[1, 0, 11].nonzero()[:, 0].tolist() == [11]


@pytest.mark.parametrize("shared", [1, 2])
def test_shared_leading_tokens_change_no_logprob(model: PeftModel, shared: int) -> None:
    bundles = [Bundle([2, 40, 41, 1, 3], [[50, 51], [60]]), Bundle([2, 40, 90, 91, 1, 3], [[80, 81, 82], []])]
    decoder, head = SplitDecoder(model, upper_layers=1), model.get_output_embeddings()
    alone, together = (pack(bundles, pad=0, shared=count) for count in (0, shared))
    expected = answer_logprobs(decoder.states(decoder.features(alone), alone), head, alone).logprobs
    found = answer_logprobs(decoder.states(decoder.features(together), together), head, together).logprobs
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_shared_leading_tokens_change_no_gradient(clean: PeftModel) -> None:
    bundles = [Bundle([2, 40, 41, 1, 3], [[50, 51], [60]]), Bundle([2, 40, 90, 91, 1, 3], [[80, 81, 82]])]
    decoder, head = SplitDecoder(clean, upper_layers=1), clean.get_output_embeddings()
    gradients: list[torch.Tensor] = []
    for shared in (0, 2):
        clean.zero_grad()
        packed = pack(bundles, pad=0, shared=shared)
        answer_logprobs(decoder.states(decoder.features(packed), packed), head, packed).logprobs.sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in clean.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


def test_prompts_that_do_not_share_the_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="do not share 2 leading tokens"):
        pack(BUNDLES, pad=0, shared=2)


def test_prompts_of_shared_tokens_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="has no more than these"):
        pack([Bundle([2, 40], [[1]])], pad=0, shared=2)
