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

from dr_irl.language.anatomy import base_of, decoder_of, layers_name, norm_name
from dr_irl.language.packing import Packed
from dr_irl.language.windows import layer_masks


class SplitDecoder:
    """Two views of one decoder, which hold its very modules, adapters included."""

    def __init__(self, model: PreTrainedModel | PeftModel, *, upper_layers: int) -> None:
        """Split below the topmost `upper_layers` layers, or below all where there are fewer.

        Raises:
            ModelError: the family's layers, or its last norm, cannot be told from its other parts.
        """
        self._model = base_of(model)
        decoder = decoder_of(model)
        name = layers_name(decoder)
        layers = list(cast(nn.ModuleList, decoder.get_submodule(name)))
        at = max(0, len(layers) - upper_layers)
        # The upper part keeps every layer's number: families look up by it what kind of layer one is.
        self._given = [_Given(layer) for layer in layers[:at]]
        self._lower = _view(decoder, {name: nn.ModuleList(layers[:at]), norm_name(decoder): nn.Identity()})
        self._upper = _view(decoder, {name: nn.ModuleList([*self._given, *layers[at:]])})
        self._preamble: tuple[list[int], DynamicCache, Tensor] | None = None

    @torch.no_grad()
    def features(self, packed: Packed) -> Float[Tensor, "rows length hidden"]:
        """States of the rows after the frozen lower layers; those of the preamble are kept here."""
        cache = copy.deepcopy(self._preamble_below(packed)[0])
        return self._run(self._lower, packed, cache)

    def states(
        self, features: Float[Tensor, "rows length hidden"], packed: Packed
    ) -> Float[Tensor, "rows length hidden"]:
        """Final states, from the features of the same rows."""
        cache = DynamicCache()
        if len(packed.preamble):
            self._hand_in(self._preamble_below(packed)[1])
            self._upper(input_ids=packed.preamble[None], past_key_values=cache, use_cache=True)
        self._hand_in(features)
        return self._run(self._upper, packed, cache)

    def _hand_in(self, states: Float[Tensor, "rows length hidden"]) -> None:
        """Let the upper part begin with these states, whatever its family makes of the tokens before its layers."""
        for given in self._given:
            given.states = states

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

    def _run(self, part: nn.Module, packed: Packed, cache: DynamicCache) -> Tensor:
        cache.batch_repeat_interleave(len(packed.ids))
        return part(
            input_ids=packed.ids,
            attention_mask=layer_masks(
                self._model, packed.visible, queries=packed.position_ids, keys=packed.key_position_ids
            ),
            position_ids=packed.position_ids,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state


class _Given(nn.Module):
    """Stands where a lower layer stands, whose states are known."""

    def __init__(self, layer: nn.Module) -> None:
        """Look like `layer` to a decoder that asks what kind of layer it is."""
        super().__init__()
        self.__dict__ |= {name: value for name, value in layer.__dict__.items() if not name.startswith("_")}
        self.states: Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> Tensor | None:
        return self.states


def layer_count(model: PreTrainedModel | PeftModel) -> int:
    """Count the layers that there are: some families' configuration counts halves of them. Raises as `layers_name`."""
    decoder = decoder_of(model)
    return len(cast(nn.ModuleList, decoder.get_submodule(layers_name(decoder))))


def topmost_layers(model: PreTrainedModel | PeftModel, count: int) -> list[int]:
    """Indices of the topmost `count` layers, or of all where there are fewer."""
    depth = layer_count(model)
    return list(range(max(0, depth - count), depth))


def pad_features(features: Sequence[Float[Tensor, "_ hidden"]]) -> Float[Tensor, "rows length hidden"]:
    """Pad features of rows of different length on the right."""
    return nn.utils.rnn.pad_sequence(list(features), batch_first=True)


def _view(decoder: nn.Module, replaced: dict[str, nn.Module]) -> nn.Module:
    view = decoder.__class__.__new__(decoder.__class__)
    view.__dict__ = dict(decoder.__dict__)
    view._modules = dict(decoder._modules) | replaced
    return view
