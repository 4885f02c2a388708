"""A transformer in two parts: frozen lower layers, and upper layers that carry adapters.

The lower part runs once, without gradients, whatever is done above it: several epochs, a policy and its reference,
or seven reward models. What all rows begin with runs once for all rows, as keys and values that they attend to.
"""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

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
        self._preamble: tuple[list[int], DynamicCache, Tensor] | None = None

    @torch.no_grad()
    def features(self, packed: Packed) -> Float[Tensor, "rows length hidden"]:
        """States of the rows after the frozen lower layers; those of the preamble are kept here."""
        cache = copy.deepcopy(self._preamble_below(packed)[0])
        return self._run(self._lower, packed, cache, input_ids=packed.ids)

    def states(
        self, features: Float[Tensor, "rows length hidden"], packed: Packed
    ) -> Float[Tensor, "rows length hidden"]:
        """Final states, from the features of the same rows."""
        cache = DynamicCache()
        if len(packed.preamble):
            self._upper(inputs_embeds=self._preamble_below(packed)[1], past_key_values=cache, use_cache=True)
        return self._run(self._upper, packed, cache, inputs_embeds=features)

    @torch.no_grad()
    def _preamble_below(self, packed: Packed) -> tuple[DynamicCache, Float[Tensor, "1 shared hidden"]]:
        """Keys, values and states of the preamble in the lower layers, which never change: computed once."""
        ids = packed.preamble.tolist()
        if self._preamble is None or self._preamble[0] != ids:
            cache = DynamicCache()
            states = torch.empty(1, 0, 0)
            if ids:
                output = self._lower(input_ids=packed.preamble[None], past_key_values=cache, use_cache=True)
                states = output.last_hidden_state
            self._preamble = (ids, cache, states)
        return self._preamble[1:]

    @staticmethod
    def _run(part: nn.Module, packed: Packed, cache: DynamicCache, **inputs: Tensor) -> Tensor:
        cache.batch_repeat_interleave(len(packed.ids))
        return part(
            attention_mask=packed.visible,
            position_ids=packed.position_ids,
            past_key_values=cache,
            use_cache=True,
            **inputs,
        ).last_hidden_state


def layer_count(model: PreTrainedModel | PeftModel) -> int:
    """Number of transformer layers."""
    return model.config.num_hidden_layers


def topmost_layers(model: PreTrainedModel | PeftModel, count: int) -> list[int]:
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
