"""A transformer in two parts: frozen lower layers, and upper layers that carry adapters.

The lower part runs once, without gradients, whatever is done above it: several epochs, a policy and its reference,
or seven reward models.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from dr_irl.language.packing import Packed


class SplitDecoder:
    """Two views of one decoder, which hold its very modules, adapters included."""

    def __init__(self, model: PreTrainedModel | PeftModel, *, upper_layers: int) -> None:
        """Split below the topmost `upper_layers` layers, or below all where there are fewer."""
        inner = model.get_base_model() if isinstance(model, PeftModel) else model
        decoder: Any = cast(Any, inner).get_decoder()
        at = max(0, len(decoder.layers) - upper_layers)
        self._lower = _view(decoder, decoder.layers[:at], nn.Identity())
        self._upper = _view(decoder, decoder.layers[at:], decoder.norm)

    @torch.no_grad()
    def features(self, packed: Packed) -> Float[Tensor, "rows length hidden"]:
        """States after the frozen lower layers."""
        return self._lower(
            input_ids=packed.ids, attention_mask=packed.visible, position_ids=packed.position_ids, use_cache=False
        ).last_hidden_state

    def states(
        self, features: Float[Tensor, "rows length hidden"], packed: Packed
    ) -> Float[Tensor, "rows length hidden"]:
        """Final states, from the features of the same rows."""
        return self._upper(
            inputs_embeds=features, attention_mask=packed.visible, position_ids=packed.position_ids, use_cache=False
        ).last_hidden_state


def layer_count(model: PreTrainedModel | PeftModel) -> int:
    """Number of transformer layers."""
    return model.config.num_hidden_layers


def topmost_layers(model: PreTrainedModel, count: int) -> list[int]:
    """Indices of the topmost `count` layers, or of all where there are fewer."""
    depth = layer_count(model)
    return list(range(max(0, depth - count), depth))


def pad_features(features: Sequence[Float[Tensor, "_ hidden"]]) -> Float[Tensor, "rows length hidden"]:
    """Pad features of rows of different length on the right."""
    return nn.utils.rnn.pad_sequence(list(features), batch_first=True)


def _view(decoder: nn.Module, layers: nn.ModuleList, norm: nn.Module) -> nn.Module:
    view = decoder.__class__.__new__(decoder.__class__)
    view.__dict__ = dict(decoder.__dict__)
    view._modules = dict(decoder._modules) | {"layers": layers, "norm": norm}
    return view
