"""What can be loaded, and how a name that stands for nothing is answered."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from families import tiny_causal_lm
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense

from dr_irl.errors import ModelError
from dr_irl.language import load as loading
from dr_irl.language.anatomy import named_projections
from dr_irl.language.chat import prompt_ids, response_ids
from dr_irl.language.load import (
    load_causal_lm,
    load_encoder,
    load_reward_backbone,
    load_tokenizer,
    look_at_policy,
)
from dr_irl.language.resolve import resolve_model

NAME = "bundled:tiny-random-lm"
IDS = [2, 40, 41, 1, 3]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder of one's own with the tiny model in it."""
    return Path(shutil.copytree(resolve_model(NAME), tmp_path / "model"))


def test_a_language_model_is_frozen_and_in_the_asked_format() -> None:
    model = load_causal_lm(NAME, dtype=torch.bfloat16)
    assert {(p.requires_grad, p.dtype) for p in model.parameters()} == {(False, torch.bfloat16)}


def test_a_folder_is_the_same_model_as_its_name(copied: Path) -> None:
    weights = [load_causal_lm(name, dtype=torch.float32).get_output_embeddings().weight for name in (NAME, str(copied))]
    assert torch.equal(*weights)


def test_a_fresh_process_makes_and_loads_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DR_IRL_CACHE", str(tmp_path))  # so that the tiny model is made anew, too
    code = (
        "import json, torch; from dr_irl.language.load import load_causal_lm; "
        f"model = load_causal_lm({NAME!r}, dtype=torch.float32); "
        f"print(json.dumps(model(torch.tensor([{IDS}])).logits[0, -1].tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    monkeypatch.undo()
    here = load_causal_lm(NAME, dtype=torch.float32)(torch.tensor([IDS])).logits[0, -1]
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), here, rtol=1e-5, atol=1e-7)


def test_a_tokenizer_pads_on_the_left() -> None:
    assert load_tokenizer(NAME).padding_side == "left"


def test_a_reward_backbone_starts_with_a_head_of_zeros_in_float32() -> None:
    head = load_reward_backbone(NAME, depth=1, dtype=torch.bfloat16).score.weight
    assert (head.dtype, head.count_nonzero().item()) == (torch.float32, 0)


def test_a_reward_backbone_keeps_the_lowest_layers() -> None:
    whole, cut = load_causal_lm(NAME, dtype=torch.float32), load_reward_backbone(NAME, depth=1, dtype=torch.float32)
    assert len(cut.model.layers) == 1
    assert torch.equal(cut.model.layers[0].mlp.up_proj.weight, whole.model.layers[0].mlp.up_proj.weight)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """An encoder with a part whose weights lie in a folder of its own."""
    whole = load_encoder("bundled:tiny-random-encoder")
    SentenceTransformer(modules=[*whole, Dense(16, 8, activation_function=torch.nn.Tanh())]).save(
        str(tmp_path / "encoder")
    )
    return tmp_path / "encoder"


def test_an_encoder_of_three_parts_is_loaded(encoder: Path) -> None:
    assert load_encoder(str(encoder)).encode(["a"]).shape == (1, 8)


def test_an_encoder_with_a_pickled_part_is_refused(encoder: Path) -> None:
    [weights] = encoder.glob("*_Dense/model.safetensors")
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(ModelError, match=r"keeps the weights of a part in 2_Dense/pytorch_model.bin, a pickle"):
        load_encoder(str(encoder))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("modules.json", "sentence_transformers.base.modules.dense.Dense", "planted.Part"),
        ("2_Dense/config.json", "torch.nn.modules.activation.Tanh", "planted.Part"),
    ],
)
def test_no_class_that_a_folder_names_is_imported(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str
) -> None:
    (tmp_path / "planted.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = (encoder / file).read_text()
    assert old in text
    (encoder / file).write_text(text.replace(old, new))
    with pytest.raises(ModelError, match="cannot be loaded.*planted|names the function 'planted.Part'"):
        load_encoder(str(encoder))
    assert not (tmp_path / "ran").exists()


def test_an_encoder_gives_one_vector_per_text() -> None:
    assert load_encoder("bundled:tiny-random-encoder").encode(["a", "b c"]).shape == (2, 16)


def test_an_unknown_bundled_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="'bundled:gpt-9' is unknown; bundled are: .*bundled:tiny-random-lm"):
        load_causal_lm("bundled:gpt-9", dtype=torch.float32)


@pytest.mark.parametrize("depth", [0, 3])
def test_a_depth_that_the_model_does_not_have_is_refused(depth: int) -> None:
    with pytest.raises(ModelError, match=rf"reward.depth = {depth}: .*has 2 layers; allowed is 1 to 2"):
        load_reward_backbone(NAME, depth=depth, dtype=torch.float32)


def test_a_model_without_a_chat_template_is_refused(copied: Path) -> None:
    (copied / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template; name an instruct model"):
        load_tokenizer(str(copied))


def test_pickled_weights_are_refused(copied: Path) -> None:
    torch.save(load_causal_lm(NAME, dtype=torch.float32).state_dict(), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded: .*safetensors"):
        load_causal_lm(str(copied), dtype=torch.float32)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("load", [load_causal_lm, partial(load_reward_backbone, depth=1)])
def test_a_model_without_a_file_is_told_in_one_sentence(copied: Path, missing: str, load: Any) -> None:
    (copied / missing).unlink()
    with pytest.raises(ModelError, match=r"model '.*' in .* cannot be loaded: .*; the folder must hold config.json"):
        load(str(copied), dtype=torch.float32)


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("config.json", partial(load_causal_lm, dtype=torch.float32)),
        ("config.json", partial(load_reward_backbone, depth=1, dtype=torch.float32)),
        ("model.safetensors", partial(load_causal_lm, dtype=torch.float32)),
        ("tokenizer.json", load_tokenizer),
    ],
)
def test_a_damaged_file_is_told_in_one_sentence(copied: Path, name: str, load: Any) -> None:
    (copied / name).write_bytes((copied / name).read_bytes()[:50])
    with pytest.raises(ModelError, match=r"cannot be loaded: .*; the folder must hold config.json"):
        load(str(copied))


@pytest.mark.parametrize("load", [load_causal_lm, partial(load_reward_backbone, depth=1)])
def test_weights_that_are_missing_are_not_made_up(copied: Path, load: Any) -> None:
    weights = load_file(copied / "model.safetensors")
    del weights["model.layers.0.self_attn.q_proj.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 of the weights .* model.layers.0.self_attn.q_proj.weight among them"):
        load(str(copied), dtype=torch.float32)


def test_a_model_without_a_tokenizer_is_told_in_one_sentence(copied: Path) -> None:
    for path in copied.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ModelError, match="cannot be loaded: "):
        load_tokenizer(str(copied))


def test_an_absent_device_is_refused_before_loading() -> None:
    with pytest.raises(ModelError, match=r"models.device = 'cuda:99': this machine has \d+ CUDA devices .* to cpu"):
        load_causal_lm(NAME, dtype=torch.float32, device="cuda:99")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cpu:0"])
def test_an_unknown_device_is_told(device: str) -> None:
    with pytest.raises(ModelError, match=f"^device '{device}': allowed are cpu, cuda and cuda:N$"):
        load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32, device=device)


def look(name: str, modules: tuple[str, ...] = ("q_proj",), depth: int = 1, topmost: int = 1) -> None:
    look_at_policy(name, adapted=(topmost, modules), rewarding=(depth, topmost, modules), dtype=torch.float32)


def test_a_model_that_is_known_is_not_loaded_to_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    look(NAME)
    monkeypatch.setattr(loading, "_load", lambda *_, **__: pytest.fail("loaded"))
    look(NAME)


def test_a_model_that_cannot_be_used_is_refused_when_it_is_looked_at(tmp_path: Path) -> None:
    tiny_causal_lm("bert").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="0 lists of layers; name a model of a family"):
        look(str(tmp_path), ("query",))


def test_a_projection_that_the_model_lacks_is_told_with_those_that_it_has() -> None:
    with pytest.raises(ModelError, match=r"no projection 'q_porj' in layers 1 to 1, .*; they have down_proj, .*q_proj"):
        look(NAME, ("q_proj", "q_porj"))


def test_layers_that_have_no_such_projection_are_told_before_anything_is_loaded(tmp_path: Path) -> None:
    tiny_causal_lm("nemotron_h").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"'q_proj' in layers 3 to 3, which are adapted; .*raise adapted_layers"):
        look(str(tmp_path), depth=2)


@pytest.mark.parametrize(
    ("family", "own"), [("gpt2", ["c_attn", "attn.c_proj"]), ("phi3", ["qkv_proj", "o_proj"]), ("llama", None)]
)
def test_projections_are_found_by_the_names_that_the_family_has(family: str, own: list[str] | None) -> None:
    asked = ["q_proj", "k_proj", "o_proj"]
    assert named_projections(tiny_causal_lm(family), asked, [0, 1]) == (own or asked)


def test_a_family_without_a_class_for_scores_gets_one(tmp_path: Path) -> None:
    model = tiny_causal_lm("cohere")
    model.save_pretrained(tmp_path)
    backbone = load_reward_backbone(str(tmp_path), depth=2, dtype=torch.float32)
    assert type(backbone).__name__ == "CohereForSequenceClassification"
    assert torch.equal(backbone.model.layers[1].mlp.up_proj.weight, model.model.layers[1].mlp.up_proj.weight)


def test_a_tokenizer_that_nothing_ends_is_refused(copied: Path) -> None:
    settings = copied / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"eos_token": None}))
    (copied / "chat_template.jinja").write_text("{% for m in messages %}<|user|>{{ m.content }}{% endfor %}")
    with pytest.raises(ModelError, match="has no end token, and its chat template closes no turn"):
        load_tokenizer(str(copied))


def test_an_adapter_that_is_named_as_a_model_is_told_with_what_to_name(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "its/base"}))
    for load in (load_tokenizer, partial(load_causal_lm, dtype=torch.float32), look):
        with pytest.raises(ModelError, match=r"is an adapter, not a model; name its base model, its/base,"):
            load(str(tmp_path))


def test_a_token_without_an_embedding_is_refused_with_the_numbers(copied: Path) -> None:
    tokenizer = load_tokenizer(NAME)
    rows = len(tokenizer)
    tokenizer.add_tokens(["word"])
    tokenizer.save_pretrained(copied)
    with pytest.raises(ModelError, match=rf"has {rows + 1} tokens, and 1 .*, to number {rows}, are beyond the {rows} "):
        load_tokenizer(str(copied))


def test_a_special_token_that_never_comes_up_needs_no_embedding(copied: Path) -> None:
    tokenizer = load_tokenizer(NAME)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(copied)
    [ids] = prompt_ids(load_tokenizer(str(copied)), ["see <image>"])
    assert max(ids) < len(tokenizer) - 1


def test_a_pad_token_without_an_embedding_is_refused(copied: Path) -> None:
    tokenizer = load_tokenizer(NAME)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(copied)
    with pytest.raises(ModelError, match="are beyond the"):
        load_tokenizer(str(copied))


def test_a_tokenizer_without_an_end_token_ends_turns_as_its_template_does(copied: Path) -> None:
    settings = copied / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"eos_token": None}))
    tokenizer = load_tokenizer(str(copied))
    assert tokenizer.eos_token_id is None
    assert tokenizer.convert_ids_to_tokens(response_ids(tokenizer, ["a"], limit=9)[0])[-1] == "<|end|>"
