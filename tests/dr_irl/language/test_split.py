"""The two halves of a decoder together are the decoder."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedModel

from dr_irl.language.adapters import POLICY, add_policy_adapter, load_policy_adapter, reference_active, save_adapter
from dr_irl.language.load import load_causal_lm
from dr_irl.language.packing import Bundle, pack
from dr_irl.language.split import SplitDecoder, layer_count, pad_features, topmost_layers

PACKED = pack([Bundle([2, 40, 41, 1], [[50, 51], [60]]), Bundle([2, 1], [[80]])], pad=0)
PLAIN = [2, 40, 41, 1, 50, 51]


@pytest.fixture
def model() -> PreTrainedModel:
    return load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32)


@pytest.fixture
def two_adapters(model: PreTrainedModel, tmp_path: Path) -> PeftModel:
    """A policy that has moved away from its reference; both adapt the upper layer only."""
    generator = torch.Generator().manual_seed(0)
    adapted = add_policy_adapter(model, rank=2, adapted_layers=1, target_modules=["v_proj"], generator=generator)
    save_adapter(adapted, POLICY, tmp_path)
    loaded = load_policy_adapter(load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32), tmp_path)
    for name, parameter in loaded.named_parameters():
        if "lora_B.policy" in name:
            parameter.data.fill_(0.5)
    return loaded


@pytest.mark.parametrize("upper_layers", [1, 2, 3, 1000])
def test_both_halves_make_the_whole(model: PreTrainedModel, upper_layers: int) -> None:
    decoder = SplitDecoder(model, upper_layers=upper_layers)
    states = decoder.states(decoder.features(PACKED), PACKED)
    expected = model.get_decoder()(input_ids=torch.tensor([PLAIN])).last_hidden_state[0]
    torch.testing.assert_close(states[0, :6], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("upper_layers", [2, 3, 1000])
def test_features_below_all_layers_are_the_embeddings(model: PreTrainedModel, upper_layers: int) -> None:
    features = SplitDecoder(model, upper_layers=upper_layers).features(PACKED)
    assert torch.equal(features, model.get_input_embeddings()(PACKED.ids))


def test_features_are_the_same_whichever_adapter_is_active(two_adapters: PeftModel) -> None:
    decoder = SplitDecoder(two_adapters, upper_layers=1)
    of_policy = decoder.features(PACKED)
    with reference_active(two_adapters):
        assert torch.equal(decoder.features(PACKED), of_policy)


def test_states_follow_the_active_adapter(two_adapters: PeftModel) -> None:
    decoder = SplitDecoder(two_adapters, upper_layers=1)
    features = decoder.features(PACKED)
    of_policy = decoder.states(features, PACKED)
    with reference_active(two_adapters):
        assert not torch.allclose(decoder.states(features, PACKED), of_policy)


def test_splitting_leaves_the_model_whole(model: PreTrainedModel) -> None:
    SplitDecoder(model, upper_layers=1)
    assert len(model.get_decoder().layers) == layer_count(model) == 2


@pytest.mark.parametrize(("count", "expected"), [(1, [1]), (2, [0, 1]), (1000, [0, 1])])
def test_topmost_layers(model: PreTrainedModel, count: int, expected: list[int]) -> None:
    assert topmost_layers(model, count) == expected


def test_features_are_padded_on_the_right() -> None:
    padded = pad_features([torch.ones(2, 1), torch.ones(1, 1)])
    assert padded[..., 0].tolist() == [[1, 1], [1, 0]]
