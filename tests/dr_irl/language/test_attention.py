"""Attention over short rows is torch's attention, and only there."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from dr_irl.language import attention
from dr_irl.language.attention import grouped_attention, use_short_row_attention
from dr_irl.language.load import load_causal_lm
from dr_irl.language.resolve import resolve_model

SCALING = 0.3


def case(*, heads: int, groups: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, heads, 5, 8), (3, groups, 7, 8), (3, groups, 7, 8))
    states = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
    visible = torch.rand(3, 1, 5, 7, generator=generator) < 0.6
    visible[..., 0] = True
    return states, visible


@pytest.mark.parametrize(("heads", "groups"), [(6, 2), (4, 4), (3, 1)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_values_and_gradients_are_torchs(heads: int, groups: int, dtype: torch.dtype, tolerance: float) -> None:
    states, visible = case(heads=heads, groups=groups, dtype=dtype)
    ours = grouped_attention(*states, visible, scaling=SCALING)
    exact = [tensor.detach().double().requires_grad_() for tensor in states]
    theirs = F.scaled_dot_product_attention(*exact, attn_mask=visible, scale=SCALING, enable_gqa=True)
    upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(ours, states, upstream.to(dtype))
    expected = torch.autograd.grad(theirs, exact, upstream.double())
    for found, value in zip((ours, *gradients), (theirs, *expected), strict=True):
        torch.testing.assert_close(found.double(), value, atol=tolerance, rtol=tolerance)


def test_a_token_that_sees_nothing_gets_the_mean_and_no_nan() -> None:
    (query, key, value), visible = case(heads=2, groups=2, dtype=torch.float32)
    visible[0, 0, 3] = False
    states = grouped_attention(query, key, value, visible, scaling=SCALING)
    torch.testing.assert_close(states[0, :, 3], value[0].mean(dim=1))


def test_values_may_be_of_another_size_than_keys() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, heads, 5, 8, generator=generator) for heads in (4, 2))
    value = torch.randn(2, 2, 5, 6, generator=generator)
    visible = torch.ones(5, 5, dtype=torch.bool).tril().expand(2, 1, 5, 5)
    found = grouped_attention(query, key, value, visible, scaling=SCALING)
    expected = F.scaled_dot_product_attention(query, key, value, visible, scale=SCALING, enable_gqa=True)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("length", "short"), [(1, False), (9, True), (attention.MOST_KEYS + 1, False)])
def test_the_fused_kernel_is_left_to_single_tokens_and_to_long_rows(
    length: int, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    whole = attention.grouped_attention

    def counted(query: Tensor, *others: Tensor, scaling: float) -> Tensor:
        rows.append(query.shape[0])
        return whole(query, *others, scaling=scaling)

    model = load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32)
    monkeypatch.setattr(attention, "grouped_attention", counted)
    ids = torch.randint(5, 100, (2, length), generator=torch.Generator().manual_seed(0))
    visible = torch.ones(length, length, dtype=torch.bool).tril().expand(2, 1, length, length)
    logits = model(input_ids=ids, attention_mask=visible).logits
    assert bool(rows) == short
    fused = load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32)
    fused.set_attn_implementation("sdpa")
    torch.testing.assert_close(logits, fused(input_ids=ids).logits, atol=1e-5, rtol=1e-5)


def test_a_model_with_attention_of_its_own_kind_keeps_it() -> None:
    config = AutoConfig.from_pretrained(resolve_model("bundled:tiny-random-lm"))
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    use_short_row_attention(model)
    assert model.config._attn_implementation == "eager"


def test_a_saved_model_does_not_ask_for_it(tmp_path: Path) -> None:
    load_causal_lm("bundled:tiny-random-lm", dtype=torch.float32).save_pretrained(tmp_path)
    assert "dr_irl" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))
