"""One reward model: fresh, scored in packed rows, saved and loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from dr_irl.language.adapters import save_adapter
from dr_irl.language.load import load_reward_backbone, load_tokenizer
from dr_irl.reward.model import RewardBackbone, add_reward_adapter

NAME = "bundled:tiny-random-lm"
PROMPTS = ["how are you?", "hi"]
ANSWERS = [["fine", "not so well today", ""], ["a much longer answer than the others"]]
FLAT = [(prompt, answer) for prompt, group in zip(PROMPTS, ANSWERS, strict=True) for answer in group]

IN_A_FRESH_PROCESS = """
import json
import sys
import torch
from peft import PeftModel
from dr_irl.language.load import load_reward_backbone, load_tokenizer
tokenizer = load_tokenizer("bundled:tiny-random-lm")
backbone = load_reward_backbone("bundled:tiny-random-lm", depth=2, dtype=torch.float32)
model = PeftModel.from_pretrained(backbone, sys.argv[1]).eval()
found = []
for prompt, answer in json.loads(sys.argv[3]):
    text = f"<|user|>{prompt}<|end|><|assistant|>{answer}<|end|>"
    found.append(model(**tokenizer(text, return_tensors="pt")).logits[0, 0].detach())
torch.save(torch.stack(found), sys.argv[2])
"""


def fresh(seed: int = 0) -> PeftModel:
    return add_reward_adapter(
        load_reward_backbone(NAME, depth=2, dtype=torch.float32),
        "insult",
        rank=2,
        adapted_layers=1,
        target_modules=["q_proj", "v_proj"],
        generator=torch.Generator().manual_seed(seed),
    )


@pytest.fixture
def moved() -> PeftModel:
    """A reward model that has learnt something: neither its head nor its B matrices are zero."""
    model, generator = fresh(), torch.Generator().manual_seed(1)
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad and "lora_A" not in name:
            parameter.data.normal_(generator=generator)
    return model


def score(model: PeftModel) -> torch.Tensor:
    backbone = RewardBackbone(model.eval(), load_tokenizer(NAME), adapted_layers=1, limit=64)
    bundles = backbone.bundles(PROMPTS, ANSWERS)
    return torch.cat(backbone.rewards_in_passes(bundles, backbone.features(bundles)))


def test_fresh_model_rewards_everything_with_zero() -> None:
    assert score(fresh()).tolist() == [0.0] * 4


def test_rewards_are_those_of_the_plain_classifier(moved: PeftModel) -> None:
    tokenizer = load_tokenizer(NAME)
    for found, (prompt, answer) in zip(score(moved), FLAT, strict=True):
        inputs = tokenizer(f"<|user|>{prompt}<|end|><|assistant|>{answer}<|end|>", return_tensors="pt")
        torch.testing.assert_close(found, moved(**inputs).logits[0, 0].detach(), atol=1e-5, rtol=1e-5)


def test_saved_model_gives_the_same_rewards_in_a_fresh_process(moved: PeftModel, tmp_path: Path) -> None:
    save_adapter(moved, "insult", tmp_path / "insult")
    found = tmp_path / "rewards.pt"
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS, tmp_path / "insult", found, json.dumps(FLAT)]
    subprocess.run(command, check=True)
    torch.testing.assert_close(torch.load(found), score(moved), atol=1e-5, rtol=1e-5)


def test_head_is_saved(moved: PeftModel, tmp_path: Path) -> None:
    save_adapter(moved, "insult", tmp_path)
    heads = [value for name, value in load_file(tmp_path / "adapter_model.safetensors").items() if "score" in name]
    assert len(heads) == 1 and heads[0].abs().min() > 0


def test_only_adapter_and_head_learn() -> None:
    names = [name for name, parameter in fresh().named_parameters() if parameter.requires_grad]
    assert all("lora_" in name or ".score." in name for name in names)
    assert any(".score." in name for name in names) and any("lora_" in name for name in names)


def test_long_answers_are_cut(moved: PeftModel) -> None:
    backbone = RewardBackbone(moved, load_tokenizer(NAME), adapted_layers=1, limit=3)
    (bundle,) = backbone.bundles(["hi"], [["abcdef", "a"]])
    assert [len(answer) for answer in bundle.answers] == [3, 2]


def test_fresh_weights_do_not_depend_on_the_global_state() -> None:
    torch.manual_seed(1)
    one = fresh().state_dict()
    torch.manual_seed(2)
    two = fresh().state_dict()
    assert all(torch.equal(value, two[name]) for name, value in one.items())
