"""Attention over short rows on a processor: plain matrix products, where torch's fused kernel is slow.

Measured on two cores with AMX, 20 rows of 50 tokens, forward and backward: 27 ms fused and 5 ms here in bfloat16, 8 and
5 ms in float32 (benchmarks/results/attention.json). Where keys are many the fused kernel wins, and spares the memory of
a score for every pair of tokens.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

MOST_KEYS = 256
"""In float32 the fused kernel is about as fast from here on; in bfloat16 it is slower up to twice as many keys."""
SHORT_ROWS = "dr_irl_short_rows"


def use_short_row_attention(model: PreTrainedModel) -> None:
    """Let a model attend this way where rows are short; only where it would use torch's fused attention otherwise."""
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(SHORT_ROWS)


def grouped_attention(
    query: Float[Tensor, "rows heads length size"],
    key: Float[Tensor, "rows groups keys size"],
    value: Float[Tensor, "rows groups keys values"],
    visible: Bool[Tensor, "#rows 1 length keys"],
    *,
    scaling: float,
) -> Float[Tensor, "rows heads length values"]:
    """softmax(scaling q k' where visible) v; the heads of a group share its keys and values.

    A token that sees no key, as padding may, gets the mean of all values.
    """
    rows, heads, length, size = query.shape
    groups, keys = key.shape[1:3]
    together = (rows, groups, heads // groups * length, -1)  # one product for all heads of a group
    scores = (query * scaling).reshape(together) @ key.transpose(2, 3)
    hidden = torch.zeros_like(visible, dtype=query.dtype).masked_fill_(~visible, torch.finfo(query.dtype).min)
    shares = (scores.view(rows, groups, -1, length, keys) + hidden[:, :, None]).softmax(dim=-1)
    return (shares.view(together) @ value).view(rows, heads, length, value.shape[-1])


def _forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers asks its attention functions to."""
    short = query.device.type == "cpu" and query.shape[2] > 1 and key.shape[2] <= MOST_KEYS
    plain = not dropout and all(options.get(name) is None for name in ("softcap", "position_bias", "cache"))
    if short and plain and attention_mask is not None and attention_mask.dtype == torch.bool:
        factor = query.shape[-1] ** -0.5 if scaling is None else scaling
        states = grouped_attention(query, key, value, attention_mask, scaling=factor)
        return states.transpose(1, 2).contiguous(), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **options)


AttentionInterface.register(SHORT_ROWS, _forward)
AttentionMaskInterface.register(SHORT_ROWS, sdpa_mask)
