"""What layers that see a window only may attend to, by positions, in the form that the model's attention takes.

transformers draws windows by places in the row. Ours are not positions: packed answers restart after their prompt, and
padding may stand between what all prompts share and the rest of one.
"""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

Mask: TypeAlias = Bool[Tensor, "rows 1 length keys"] | Float[Tensor, "rows 1 length keys"]
_FULL, _SLIDING, _CHUNKED = "full_attention", "sliding_attention", "chunked_attention"


def has_windows(config: PreTrainedConfig) -> bool:
    """Tell whether some layer attends to a window only."""
    text = config.get_text_config()
    return bool(getattr(text, "sliding_window", None) or getattr(text, "attention_chunk_size", None))


def layer_masks(
    model: PreTrainedModel,
    visible: Bool[Tensor, "rows 1 length keys"],
    *,
    queries: Int[Tensor, "rows length"],
    keys: Int[Tensor, "rows keys"],
) -> Mask | dict[str, Mask]:
    """Return the mask of all layers, or, where kinds of layers differ, that of each kind.

    Args:
        model: whose layers are meant; transformers passes a mask on to them as it is given.
        visible: [r, 0, q, k]: what token q attends to where nothing narrows its view.
        queries: positions of the tokens in their plain sequences.
        keys: positions of what they attend to.
    """
    config = model.config.get_text_config()
    window, chunk = getattr(config, "sliding_window", None), getattr(config, "attention_chunk_size", None)
    kinds = set(getattr(config, "layer_types", None) or [_SLIDING if window else _CHUNKED if chunk else _FULL])
    seen = {_FULL: visible}
    if window and _SLIDING in kinds:
        seen[_SLIDING] = visible & _near(queries, keys, int(window), "window")
    if chunk and _CHUNKED in kinds:
        seen[_CHUNKED] = visible & _near(queries, keys, int(chunk), "chunk")
    drawn = {kind: _as_taken(mask, model) for kind, mask in seen.items() if kind in kinds}
    return drawn if len(drawn) > 1 else next(iter(drawn.values()), _as_taken(visible, model))


def _near(
    queries: Int[Tensor, "rows length"], keys: Int[Tensor, "rows keys"], size: int, kind: Literal["window", "chunk"]
) -> Bool[Tensor, "rows 1 length keys"]:
    """Tell which keys are within a token's window, which ends with it, or within its chunk."""
    of_query, of_key = queries[:, :, None], keys[:, None, :]
    near = of_key > of_query - size if kind == "window" else of_key // size == of_query // size
    return near[:, None]


def _as_taken(visible: Bool[Tensor, "rows 1 length keys"], model: PreTrainedModel) -> Mask:
    """Give attention that is written out in PyTorch a mask that it adds to the scores; fused kernels take booleans."""
    if model.config._attn_implementation != "eager":
        return visible
    added = torch.zeros(visible.shape, dtype=model.dtype, device=visible.device)
    return added.masked_fill(~visible, torch.finfo(model.dtype).min)
