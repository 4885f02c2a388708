"""What other programs can serve: plain LoRA as PEFT saves it, loaded by PEFT alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from dr_irl.errors import ModelError
from dr_irl.language.adapters import POLICY, add_policy_adapter, save_adapter
from dr_irl.language.load import load_causal_lm
from dr_irl.language.resolve import resolve_model
from dr_irl.promotion.servable import CONFIG_FILE, WEIGHTS_FILE, lora_rank, require_servable

IDS = [[2, 40, 41, 1, 3]]
PLAIN = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
model = PeftModel.from_pretrained(base, sys.argv[2])
assert not [name for name in sys.modules if name.startswith("dr_irl")]
print(model(input_ids=torch.tensor([[2, 40, 41, 1, 3]])).logits[0, -1, :8].tolist())
"""


@pytest.fixture(scope="module")
def adapted() -> PeftModel:
    """A tiny model with an adapter that has learnt something: its B matrices are not zero."""
    base = load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32)
    options = {"rank": 2, "adapted_layers": 1, "target_modules": ["q_proj", "v_proj"]}
    model = add_policy_adapter(base, **options, generator=torch.Generator().manual_seed(0))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return model


@pytest.fixture
def adapter(adapted: PeftModel, tmp_path: Path) -> Path:
    save_adapter(adapted, POLICY, tmp_path / "adapter")
    return tmp_path / "adapter"


def change_config(adapter: Path, **changes: object) -> None:
    config = json.loads((adapter / CONFIG_FILE).read_text())
    (adapter / CONFIG_FILE).write_text(json.dumps(config | changes))


def change_weights(adapter: Path, **changes: torch.Tensor | None) -> None:
    weights = load_file(adapter / WEIGHTS_FILE) | changes
    save_file({name: tensor for name, tensor in weights.items() if tensor is not None}, adapter / WEIGHTS_FILE)


def test_our_adapters_are_servable(adapter: Path) -> None:
    require_servable(adapter)
    assert lora_rank(adapter) == 2


def test_weights_have_the_names_that_vllm_looks_for(adapter: Path) -> None:
    assert sorted(load_file(adapter / WEIGHTS_FILE)) == [
        f"base_model.model.model.layers.1.self_attn.{module}.lora_{side}.weight"
        for module in ("q_proj", "v_proj")
        for side in "AB"
    ]


def test_plain_peft_loads_the_adapter_without_this_program(adapter: Path, adapted: PeftModel) -> None:
    command = [sys.executable, "-c", PLAIN, str(resolve_model("bundled:tiny-random-lm")), str(adapter)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=adapter).stdout
    expected = adapted(input_ids=torch.tensor(IDS)).logits[0, -1, :8]
    assert json.loads(printed) == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"peft_type": "LOHA"}, "its peft_type is 'LOHA', only 'LORA' is served"),
        ({"bias": "all"}, "its bias is 'all', only 'none' is served"),
        ({"modules_to_save": ["lm_head"]}, "it uses modules_to_save"),
        ({"use_dora": True}, "it uses use_dora"),
        ({"rank_pattern": {"q_proj": 4}}, "it uses rank_pattern"),
        ({"r": 513}, "its rank is 513, at most 512 is served"),
        ({"r": 4}, r"lora_A.weight is of shape \[2, 16\], not of rank 4"),
        ({"base_model_name_or_path": None}, "it does not name its base model"),
    ],
)
def test_what_is_not_plain_lora_is_named(adapter: Path, changes: dict[str, object], problem: str) -> None:
    change_config(adapter, **changes)
    with pytest.raises(ModelError, match=problem):
        require_servable(adapter)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"base_model.model.lm_head.weight": torch.zeros(2)}, "base_model.model.lm_head.weight is no LoRA matrix"),
        ({"base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight": None}, "q_proj has a matrix A alone"),
    ],
)
def test_weights_besides_whole_pairs_are_named(adapter: Path, changes: dict[str, torch.Tensor], problem: str) -> None:
    change_weights(adapter, **changes)
    with pytest.raises(ModelError, match=problem):
        require_servable(adapter)


def test_an_adapter_without_weights_is_told(adapter: Path) -> None:
    (adapter / WEIGHTS_FILE).unlink()
    with pytest.raises(ModelError, match="it has no adapter_model.safetensors"):
        require_servable(adapter)
