"""LoRA adapters: fresh, merged, shared, saved and loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import PreTrainedModel

from dr_irl.language.adapters import (
    POLICY,
    add_policy_adapter,
    draw_lora_weights,
    load_policy_adapter,
    merge_adapter_into,
    reference_active,
    save_adapter,
    share_weights,
)
from dr_irl.language.load import load_causal_lm
from dr_irl.snapshot import trainable_by_name

IDS = torch.tensor([[2, 40, 41, 1, 3, 50, 51]])
IN_A_FRESH_PROCESS = """
import sys
import torch
from peft import PeftModel
from dr_irl.language.load import load_causal_lm
base = load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32)
model = PeftModel.from_pretrained(base, sys.argv[1])
torch.save(model(input_ids=torch.tensor([[2, 40, 41, 1, 3, 50, 51]])).logits, sys.argv[2])
"""


def load() -> PreTrainedModel:
    return load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32)


def fresh(model: PreTrainedModel, seed: int = 0) -> PeftModel:
    generator = torch.Generator().manual_seed(seed)
    return add_policy_adapter(
        model, rank=2, adapted_layers=1, target_modules=["q_proj", "v_proj", "o_proj"], generator=generator
    )


def moved(model: PreTrainedModel) -> PeftModel:
    """An adapter that has learnt something: its B matrices are not zero."""
    adapted, generator = fresh(model), torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(generator=generator)
    return adapted


@torch.no_grad()
def logits(model: PreTrainedModel | PeftModel) -> torch.Tensor:
    return model(input_ids=IDS).logits


def test_fresh_adapter_changes_nothing() -> None:
    assert torch.equal(logits(fresh(load())), logits(load()))


def test_moved_adapter_changes_something() -> None:
    assert (logits(moved(load())) - logits(load())).abs().max() > 1e-3


def test_adapter_sits_on_the_topmost_layers_only() -> None:
    names = [name for name, parameter in fresh(load()).named_parameters() if parameter.requires_grad]
    assert names and all(".layers.1." in name and "lora_" in name for name in names)


def test_merged_model_equals_the_adapted_one() -> None:
    base = load()
    target = share_weights(base)
    adapted = moved(base)
    merge_adapter_into(target, adapted)
    torch.testing.assert_close(logits(target), logits(adapted), atol=1e-5, rtol=1e-5)


def test_merging_leaves_the_adapted_model_as_it_was() -> None:
    base = load()
    target, adapted = share_weights(base), moved(base)
    before = {name: parameter.clone() for name, parameter in adapted.state_dict().items()}
    merge_adapter_into(target, adapted)
    assert all(torch.equal(value, before[name]) for name, value in adapted.state_dict().items())


def test_merging_twice_adds_the_adapter_once() -> None:
    base = load()
    target, adapted = share_weights(base), moved(base)
    merge_adapter_into(target, adapted)
    once = logits(target)
    merge_adapter_into(target, adapted)
    assert torch.equal(logits(target), once)


def test_shared_model_holds_the_same_memory() -> None:
    base = load()
    pairs = zip(base.parameters(), share_weights(base).parameters(), strict=True)
    assert all(old.data_ptr() == new.data_ptr() for old, new in pairs)


def test_shared_model_keeps_its_structure_when_the_other_gets_an_adapter() -> None:
    base = load()
    shared, expected = share_weights(base), logits(base)
    moved(base)
    assert torch.equal(logits(shared), expected)


def test_shared_model_has_no_module_of_the_other() -> None:
    base = load()
    assert not {id(module) for module in base.modules()} & {id(module) for module in share_weights(base).modules()}


def test_saved_adapter_loads_into_plain_peft_in_a_fresh_process(tmp_path: Path) -> None:
    adapted = moved(load())
    save_adapter(adapted, POLICY, tmp_path / "adapter")
    found = tmp_path / "logits.pt"
    subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS, tmp_path / "adapter", found], check=True)
    torch.testing.assert_close(torch.load(found), logits(adapted), atol=1e-6, rtol=1e-6)


def test_saved_adapter_lies_at_the_top_of_its_folder(tmp_path: Path) -> None:
    save_adapter(fresh(load()), POLICY, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names and "policy" not in names


def test_reference_stays_where_it_was_while_the_policy_trains(tmp_path: Path) -> None:
    save_adapter(moved(load()), POLICY, tmp_path)
    model = load_policy_adapter(load(), tmp_path)
    with reference_active(model):
        before = logits(model)
    optimiser = torch.optim.SGD(trainable_by_name(model).values(), lr=1.0)
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimiser.step()
    with reference_active(model):
        assert torch.equal(logits(model), before)


def test_policy_moves_when_it_trains(tmp_path: Path) -> None:
    save_adapter(moved(load()), POLICY, tmp_path)
    model = load_policy_adapter(load(), tmp_path)
    before = logits(model)
    optimiser = torch.optim.SGD(trainable_by_name(model).values(), lr=1.0)
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimiser.step()
    assert not torch.allclose(logits(model), before)


def test_only_the_policy_learns_after_a_visit_to_the_reference(tmp_path: Path) -> None:
    save_adapter(moved(load()), POLICY, tmp_path)
    model = load_policy_adapter(load(), tmp_path)
    with reference_active(model):
        logits(model)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert names and all(".policy." in name for name in names)


def test_reference_without_an_adapter_of_its_own_is_the_frozen_model() -> None:
    model = moved(load())
    with reference_active(model):
        assert torch.equal(logits(model), logits(load()))


def test_policy_is_active_again_after_an_error(tmp_path: Path) -> None:
    save_adapter(moved(load()), POLICY, tmp_path)
    model = load_policy_adapter(load(), tmp_path)
    with pytest.raises(RuntimeError), reference_active(model):
        raise RuntimeError
    assert model.active_adapter == "policy"


def test_drawn_weights_do_not_depend_on_the_global_state(tmp_path: Path) -> None:
    for seed in (1, 2):
        torch.manual_seed(seed)
        save_adapter(fresh(load()), POLICY, tmp_path / str(seed))
    one, two = (load_file(tmp_path / str(seed) / "adapter_model.safetensors") for seed in (1, 2))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_other_generator_draws_other_weights() -> None:
    model = fresh(load())
    before = [p.clone() for name, p in sorted(model.named_parameters()) if "lora_A" in name]
    draw_lora_weights(model, torch.Generator().manual_seed(9), adapter=POLICY)
    after = [p for name, p in sorted(model.named_parameters()) if "lora_A" in name]
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
