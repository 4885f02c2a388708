"""A few layers of a model, in float32: enough to see whether two ways of running it are the same.

What makes them differ is in the family's code and the settings, not in how often a layer is repeated. And in float32 a
wrong way shows from the fourth digit on, where in bfloat16 right ones differ in the second.
"""

import copy
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from dr_irl.language.anatomy import decoder_of, layers_name

_LAYERS = 4
"""At least; SmolLM3 and Llama 4 leave out the positions in every fourth."""
_WINDOW = 24
"""Stands in for a longer window, so that a sequence longer than it takes no time."""


def specimen_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model of the lowest layers, among which is one of each kind, with the same weights and small windows.

    Raises:
        ModelError: the family's layers cannot be told from its other parts.
    """
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    small = copy.deepcopy(model, shared)
    decoder, config = decoder_of(small), small.config.get_text_config()
    name = layers_name(decoder)
    layers = cast(nn.ModuleList, decoder.get_submodule(name))
    depth = _depth(config, len(layers))
    setattr(decoder, name, layers[:depth])
    config.num_hidden_layers = depth
    if (kinds := getattr(config, "layer_types", None)) is not None:
        config.layer_types = kinds[:depth]
    return _with_small_windows(small if small.dtype == torch.float32 else copy.deepcopy(small).float())


def whole_specimen(model: PreTrainedModel) -> PreTrainedModel:
    """Return the whole model, in its number format, with small windows."""
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return _with_small_windows(copy.deepcopy(model, shared))


def _depth(config: Any, layers: int) -> int:
    """Count the lowest layers that have one of each kind among them."""
    kinds = list(getattr(config, "layer_types", None) or [])
    firsts = [kinds.index(kind) + 1 for kind in set(kinds)]
    return min(layers, max([_LAYERS, *firsts]))


def _with_small_windows(model: PreTrainedModel) -> PreTrainedModel:
    config = model.config.get_text_config()
    for name in ("sliding_window", "attention_chunk_size"):
        if (size := getattr(config, name, None)) is not None:
            setattr(config, name, min(size, _WINDOW))
    return model
