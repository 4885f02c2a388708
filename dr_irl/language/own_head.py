"""From final states to logits as the model's own `forward` does it: scales and softcaps included.

The family's `forward` is run with a decoder that hands on the states it is given. So nothing is assumed about what
stands between the two: a factor on the states, the head, a factor or a softcap on the logits.
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from dr_irl.language.anatomy import base_of, body_name, body_of

_WHOLE = "whole_head"


class OwnHead(nn.Module):
    """What a language model's `forward` does after its decoder."""

    def __init__(self, model: PreTrainedModel) -> None:
        """View `model`, whose head and settings stay its own."""
        super().__init__()
        view = type(model).__new__(type(model))
        view.__dict__ = dict(model.__dict__)
        view._modules = dict(model._modules) | {body_name(model): _HandsOn(body_of(model))}
        self._view = view

    def forward(self, states: Float[Tensor, "count hidden"]) -> Float[Tensor, "count vocabulary"]:
        """Compute the logits after each of the final states."""
        return self._view(inputs_embeds=states[None], use_cache=False).logits[0]


def head_of(model: PreTrainedModel | PeftModel) -> nn.Module:
    """Return what makes logits of final states: the plain linear head where the model does nothing else with them."""
    base = base_of(model)
    linear = cast(nn.Module, base.get_output_embeddings())
    own = OwnHead(base)
    if type(linear) is not nn.Linear:
        return own
    # Large states, so that a softcap bends what comes of them; in float32 it bends small ones, too.
    generator = torch.Generator().manual_seed(0)
    states = (100 * torch.randn(2, linear.in_features, generator=generator)).to(linear.weight)
    with torch.no_grad():
        return linear if torch.equal(own(states), linear(states[None])[0]) else own


def remember_whole_head(model: PreTrainedModel) -> None:
    """Let a linear head know what its model does besides, so that nobody who is given the head alone forgets it."""
    head, linear = head_of(model), model.get_output_embeddings()
    if head is not linear:
        cast(nn.Module, linear).__dict__[_WHOLE] = head  # no submodule: the head has the linear layer within it


def whole_head(head: nn.Module) -> nn.Module:
    """Return all that a model does after its decoder, given that or its linear head alone."""
    return head.__dict__.get(_WHOLE, head)


class _HandsOn(nn.Module):
    """Stands where the decoder stood."""

    def __init__(self, body: nn.Module) -> None:
        """Have the settings of what stood there: some families keep a factor on logits in it."""
        super().__init__()
        self.__dict__ |= {name: value for name, value in body.__dict__.items() if not name.startswith("_")}

    @property
    def decoder(self) -> "_HandsOn":
        """Itself: OPT's `forward` calls the decoder within its decoder."""
        return self

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> "_Given":
        return _Given(last_hidden_state=cast(Any, inputs_embeds))


class _Given(BaseModelOutputWithPast):
    """States, and nothing of what some families' decoders give beside them."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
