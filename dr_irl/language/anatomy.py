"""Where the parts of a language model are, whatever its family calls them."""

from typing import Any, cast

from peft import PeftModel
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel


def base_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Return the model below the adapters, which it carries in its modules."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model


def body_name(model: PreTrainedModel) -> str:
    """Return the name of what is below a model's head.

    Raises:
        NotImplementedError: the family does not say which of its parts that is.
    """
    if model.base_model_prefix in model._modules:
        return model.base_model_prefix
    bodies = [name for name, child in model.named_children() if isinstance(child, PreTrainedModel)]
    if len(bodies) != 1:
        raise NotImplementedError(f"{type(model).__name__} has {len(bodies)} parts that may be its body")
    return bodies[0]


def body_of(model: PreTrainedModel | PeftModel) -> nn.Module:
    """Return what is below a model's head; raises what `body_name` does."""
    base = base_of(model)
    return base.get_submodule(body_name(base))


def decoder_of(model: PreTrainedModel | PeftModel) -> nn.Module:
    """Return the part of a model that holds its layers; raises what `body_name` does."""
    decoder = cast(Any, base_of(model)).get_decoder()
    return body_of(model) if decoder is None or decoder is base_of(model) else decoder


def layers_name(decoder: nn.Module) -> str:
    """Return the name of a decoder's list of layers.

    Raises:
        NotImplementedError: it has no such list, or several.
    """
    lists = [name for name, child in decoder.named_children() if isinstance(child, nn.ModuleList)]
    if "layers" in lists:
        return "layers"
    if len(lists) != 1:
        raise NotImplementedError(f"{type(decoder).__name__} has {len(lists)} lists of layers")
    return lists[0]


def norm_name(decoder: nn.Module) -> str:
    """Return the name of the norm after a decoder's last layer.

    Raises:
        NotImplementedError: it has no norm, or several, beside its layers.
    """
    norms = [name for name, child in decoder.named_children() if "norm" in type(child).__name__.lower()]
    if len(norms) != 1:
        raise NotImplementedError(f"{type(decoder).__name__} has {len(norms)} norms beside its layers")
    return norms[0]


def context_length(config: PreTrainedConfig) -> int | None:
    """Return the most tokens that a model takes; None: nothing in it bounds them."""
    text = config.get_text_config()
    length = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)
    return None if length is None else int(length)
