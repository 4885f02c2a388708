"""Where the parts of a language model are, whatever its family calls them."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from peft import PeftModel
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from dr_irl.errors import ModelError

_FAMILIES = "name a model of a family in docs/models.md"
_FUSED = ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "qkv", "attn.in_proj")
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "q_proj": (*_FUSED, "q_b_proj", "query", "q_lin"),
    "k_proj": (*_FUSED, "kv_b_proj", "key", "k_lin"),
    "v_proj": (*_FUSED, "kv_b_proj", "value", "v_lin"),
    "o_proj": ("self_attention.dense", "self_attn.dense", "attention.dense", "attn.c_proj", "out_proj", "Wo"),
    "gate_proj": ("gate_up_proj",),
    "up_proj": ("gate_up_proj", "dense_h_to_4h", "c_fc", "fc1"),
    "down_proj": ("dense_4h_to_h", "mlp.c_proj", "fc2"),
}
"""What Llama calls a projection -> what it, or what it is fused into, is called elsewhere."""


def base_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Return the model below the adapters, which it carries in its modules."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model


def body_name(model: PreTrainedModel) -> str:
    """Return the name of what is below a model's head.

    Raises:
        ModelError: the family does not say which of its parts that is.
    """
    if model.base_model_prefix in model._modules:
        return model.base_model_prefix
    bodies = [name for name, child in model.named_children() if isinstance(child, PreTrainedModel)]
    if len(bodies) != 1:
        raise ModelError(f"{type(model).__name__} has {len(bodies)} parts that may be its body; {_FAMILIES}")
    return bodies[0]


def body_of(model: PreTrainedModel | PeftModel) -> nn.Module:
    """Return what is below a model's head; raises what `body_name` does."""
    base = base_of(model)
    return base.get_submodule(body_name(base))


def decoder_of(model: PreTrainedModel | PeftModel) -> nn.Module:
    """Return the part of a model that holds its layers; raises what `body_name` does."""
    decoder = cast(Any, base_of(model)).get_decoder()
    named = isinstance(decoder, PreTrainedModel) and decoder is not base_of(model)
    return decoder if named else body_of(model)


def layers_name(decoder: nn.Module) -> str:
    """Return the name of a decoder's list of layers.

    Raises:
        ModelError: it has no such list, or several.
    """
    lists = [name for name, child in decoder.named_children() if isinstance(child, nn.ModuleList)]
    if "layers" in lists:
        return "layers"
    if len(lists) != 1:
        raise ModelError(f"{type(decoder).__name__} has {len(lists)} lists of layers; {_FAMILIES}")
    return lists[0]


def norm_name(decoder: nn.Module) -> str:
    """Return the name of the norm after a decoder's last layer.

    Raises:
        ModelError: it has no norm, or several, beside its layers.
    """
    norms = [name for name, child in decoder.named_children() if "norm" in type(child).__name__.lower()]
    if len(norms) != 1:
        raise ModelError(f"{type(decoder).__name__} has {len(norms)} norms beside its layers; {_FAMILIES}")
    return norms[0]


def named_projections(model: PreTrainedModel | PeftModel, names: Sequence[str], layers: Sequence[int]) -> list[str]:
    """Return what a family calls the projections of these names; fused ones come once.

    Args:
        model: with or without adapters.
        names: as Llama calls them (`q_proj`), or as this family does.
        layers: which to look at. In some families they differ: every other one may be without attention.

    Raises:
        ModelError: none of the layers has a projection of that name, nor one known to be the same.
    """
    decoder = decoder_of(model)
    every = decoder.get_submodule(layers_name(decoder))
    own = {
        f".{name.removesuffix('.base_layer')}"
        for layer in layers
        for name, module in every.get_submodule(str(layer)).named_modules()
        if isinstance(module, nn.Linear | Conv1D) and ".lora_" not in name
    }
    found: list[str] = []
    for name in names:
        known = [each for each in (name, *_OTHER_NAMES.get(name, ())) if any(o.endswith(f".{each}") for o in own)]
        if not known:
            told = ", ".join(sorted({o.rpartition(".")[2] for o in own}))
            raise ModelError(
                f"target_modules: {model.config.model_type} has no projection {name!r} in layers {layers[0]} to "
                f"{layers[-1]}, which are adapted; they have {told}; name some of these in grpo.target_modules and "
                "reward.target_modules, or raise adapted_layers"
            )
        found.append(known[0])
    return list(dict.fromkeys(found))


def context_length(config: PreTrainedConfig) -> int | None:
    """Return the most tokens that a model takes; None: nothing in it bounds them."""
    text = config.get_text_config()
    length = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)
    return None if length is None else int(length)
