"""The self-check: what equals a model's own forward pass is used, what does not is not, and is told."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families import tiny_causal_lm
from transformers import AutoModelForCausalLM, PreTrainedModel

from dr_irl.errors import ModelError
from dr_irl.language import split
from dr_irl.language.adapters import share_weights
from dr_irl.language.decoders import open_decoder
from dr_irl.language.load import load_causal_lm, load_reward_backbone
from dr_irl.language.proof import check, proved
from dr_irl.language.proof.check import find_route
from dr_irl.language.proof.specimen import specimen_of
from dr_irl.language.route import Decoding, Route, Scoring, known_route, set_route
from dr_irl.language.rows import RowDecoder
from dr_irl.language.split import SplitDecoder, layer_count

NAME = "bundled:tiny-random-lm"


@pytest.fixture
def llama() -> PreTrainedModel:
    return tiny_causal_lm("llama")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing found yet, and a cache folder of one's own."""
    monkeypatch.setenv("DR_IRL_CACHE", str(tmp_path))
    monkeypatch.setattr(proved, "_FOUND", {})
    return tmp_path / "routes"


def test_a_model_that_all_ways_are_right_for_takes_the_fastest(llama: PreTrainedModel) -> None:
    assert find_route(llama, "x") == Route(Scoring.SPLIT, Decoding.SHARED, reason="")


def test_a_model_that_the_split_is_wrong_for_takes_whole_rows() -> None:
    route = find_route(tiny_causal_lm("bloom"), "x")  # its positions are a bias by place in the row
    assert (route.scoring, route.reason[:6]) == (Scoring.ROWS, "split:")


def test_a_model_whose_cache_is_its_own_is_read_anew_for_every_token() -> None:
    assert find_route(tiny_causal_lm("mamba"), "x").decoding == Decoding.WHOLE


def test_a_window_that_is_left_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "layer_masks", lambda model, visible, **_: visible)
    assert find_route(tiny_causal_lm("mistral"), "x").scoring == Scoring.ROWS


def test_a_softcap_that_is_left_out_is_refused_with_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "head_of", lambda model: model.get_output_embeddings())
    with pytest.raises(ModelError, match=r"model 'x' \(gemma2\) cannot be used: .*split: off by .*; rows: off by"):
        find_route(tiny_causal_lm("gemma2"), "x")


def test_numbers_that_are_none_are_refused(llama: PreTrainedModel) -> None:
    llama.get_input_embeddings().weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="is no causal language model|off by nan"):
        find_route(llama, "x")


def test_a_model_that_sees_what_follows_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model 'x' \(bert\) is no causal language model: .* nats once more tokens"):
        find_route(tiny_causal_lm("bert"), "x")


def test_the_model_stays_as_it_is() -> None:
    model = tiny_causal_lm("gemma3_text").bfloat16()
    before = (layer_count(model), model.config.sliding_window, model.dtype, model.config._attn_implementation)
    weights = [parameter.data_ptr() for parameter in model.parameters()]
    find_route(model, "x")
    after = (layer_count(model), model.config.sliding_window, model.dtype, model.config._attn_implementation)
    assert (before, weights) == (after, [parameter.data_ptr() for parameter in model.parameters()])


def test_a_specimen_has_a_layer_of_each_kind() -> None:
    config = tiny_causal_lm("gemma3_text").config
    config.num_hidden_layers, config.layer_types = 9, ["sliding_attention"] * 5 + ["full_attention"] * 4
    specimen = specimen_of(AutoModelForCausalLM.from_config(config))
    assert (layer_count(specimen), specimen.config.layer_types[-1]) == (6, "full_attention")


def test_a_specimen_of_bfloat16_is_float32_and_its_model_is_not(llama: PreTrainedModel) -> None:
    assert (specimen_of(llama.bfloat16()).dtype, llama.dtype) == (torch.float32, torch.bfloat16)


def test_a_loaded_model_knows_its_route_and_so_do_its_copies() -> None:
    model = load_causal_lm(NAME, dtype=torch.float32)
    assert known_route(model) == known_route(share_weights(model)) == Route()


def test_a_reward_backbone_knows_its_route() -> None:
    assert known_route(load_reward_backbone(NAME, depth=1, dtype=torch.float32)) == Route()


@pytest.mark.parametrize(
    ("rung", "kind"), [(Scoring.SPLIT, SplitDecoder), (Scoring.ROWS, RowDecoder), (Scoring.ALONE, RowDecoder)]
)
def test_what_was_found_is_what_is_used(llama: PreTrainedModel, rung: Scoring, kind: type) -> None:
    set_route(llama, Route(scoring=rung))
    assert type(open_decoder(llama, upper_layers=1)) is kind


def test_a_model_is_looked_at_once(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(proved, "find_route", lambda model, name: looked.append(name) or Route())
    load_causal_lm(NAME, dtype=torch.float32)
    load_causal_lm(NAME, dtype=torch.float32)
    proved._FOUND.clear()  # as in a new process
    load_causal_lm(NAME, dtype=torch.float32)
    assert looked == [NAME]


@pytest.mark.parametrize("change", ["version", "dtype"])
def test_another_version_or_number_format_is_looked_at_anew(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    looked: list[str] = []
    monkeypatch.setattr(proved, "find_route", lambda model, name: looked.append(name) or Route())
    load_causal_lm(NAME, dtype=torch.float32)
    if change == "version":
        monkeypatch.setattr(proved, "transformers", SimpleNamespace(__version__="0"))
    load_causal_lm(NAME, dtype=torch.bfloat16 if change == "dtype" else torch.float32)
    assert len(looked) == 2


@pytest.mark.parametrize("text", ["", "{}", '{"scoring": "guess", "decoding": "shared", "reason": ""}'])
def test_a_damaged_note_is_made_anew(own_cache: Path, text: str) -> None:
    load_causal_lm(NAME, dtype=torch.float32)
    [note] = own_cache.iterdir()
    whole = note.read_text()
    note.write_text(text)
    proved._FOUND.clear()
    load_causal_lm(NAME, dtype=torch.float32)
    assert note.read_text() == whole


def test_a_slower_way_is_said(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Route(Scoring.ROWS, Decoding.CACHED, reason="split: off by 3")
    monkeypatch.setattr(proved, "find_route", lambda *_: slow)
    load_causal_lm(NAME, dtype=torch.float32)
    assert f"{NAME} takes a slower way: scores by 'rows', samples by 'cached'" in caplog.text


def test_a_refused_model_is_refused_again(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: Any, name: str) -> Route:
        raise ModelError("cannot be used")

    monkeypatch.setattr(proved, "find_route", refuse)
    for _ in range(2):
        with pytest.raises(ModelError, match="cannot be used"):
            load_causal_lm(NAME, dtype=torch.float32)
