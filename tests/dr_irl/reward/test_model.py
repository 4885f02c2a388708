"""One reward model: fresh, scored in packed rows, saved and loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from dr_irl.errors import DataError
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
    return torch.cat(backbone.rewards_in_passes(backbone.prepare(PROMPTS, ANSWERS)))


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


def test_long_answers_are_cut_on_the_right(moved: PeftModel) -> None:
    backbone = RewardBackbone(moved, load_tokenizer(NAME), adapted_layers=1, limit=3)
    (row,) = backbone.prepare(["hi"], [["abcdef", "a"]])
    whole = backbone.tokenizer("abcdef", add_special_tokens=False)["input_ids"]
    assert [list(answer) for answer in row.bundle.answers][0] == whole[:3]
    assert [len(answer) for answer in row.bundle.answers] == [3, 2]


def test_answers_are_cut_where_the_context_ends(moved: PeftModel) -> None:
    moved.config.max_position_embeddings = 12
    backbone = RewardBackbone(moved, load_tokenizer(NAME), adapted_layers=1, limit=64)
    (row,) = backbone.prepare(["hello"], [["a long answer"]])
    assert len(row.bundle) == 12
    assert backbone.cut(["hello", "hello"], ["a long answer", "a"]) == [True, False]


def test_prompt_that_fills_the_context_is_refused_with_its_length(moved: PeftModel) -> None:
    moved.config.max_position_embeddings = 12
    backbone = RewardBackbone(moved, load_tokenizer(NAME), adapted_layers=1, limit=64)
    with pytest.raises(DataError, match=r"prompt of 2\d tokens leaves no room .* context of 12"):
        backbone.prepare(["x" * 20], [["a"]])


def test_cut_counts_the_answers_beyond_the_limit(moved: PeftModel) -> None:
    backbone = RewardBackbone(moved, load_tokenizer(NAME), adapted_layers=1, limit=3)
    # Two letters and the end token fit; a third letter pushes the end token out.
    assert backbone.cut(["hi"] * 3, ["ab", "abc", ""]) == [False, True, False]
    assert backbone.scored_tokens(["ab", "abcdef", ""]) == [3, 3, 1]


@pytest.mark.parametrize("chosen", [[0], [2, 0], [1, 1], [0, 1, 2]])
def test_selected_answers_have_the_rewards_they_had(moved: PeftModel, chosen: list[int]) -> None:
    backbone = RewardBackbone(moved.eval(), load_tokenizer(NAME), adapted_layers=1, limit=64)
    row = backbone.prepare(PROMPTS, ANSWERS)[0]
    whole, part = (backbone.rewards([each]).detach() for each in (row, row.select(chosen)))
    torch.testing.assert_close(part, whole[chosen], atol=1e-5, rtol=1e-5)


def test_second_adapter_leaves_the_first_as_it_was(moved: PeftModel) -> None:
    before = score(moved)
    options = {"rank": 2, "adapted_layers": 1, "target_modules": ["q_proj"]}
    add_reward_adapter(moved, "privacy_property", generator=torch.Generator().manual_seed(5), **options)
    assert score(moved).tolist() == [0.0] * 4
    moved.set_adapter("insult")
    assert torch.equal(score(moved), before)


def test_each_adapter_has_a_head_of_its_own(moved: PeftModel) -> None:
    add_reward_adapter(
        moved, "other", rank=2, adapted_layers=1, target_modules=["q_proj"], generator=torch.Generator().manual_seed(5)
    )
    learning = [name for name, parameter in moved.named_parameters() if parameter.requires_grad]
    assert learning and all(".other." in name for name in learning)


def test_fresh_weights_do_not_depend_on_the_global_state() -> None:
    torch.manual_seed(1)
    one = fresh().state_dict()
    torch.manual_seed(2)
    two = fresh().state_dict()
    assert all(torch.equal(value, two[name]) for name, value in one.items())
