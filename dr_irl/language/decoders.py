"""Final states of packed answers on any rung of the ladder: what every loss, reward and perplexity starts from."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from dr_irl.language.packing import Packed
from dr_irl.language.route import Scoring, known_route
from dr_irl.language.rows import RowDecoder
from dr_irl.language.split import SplitDecoder


@runtime_checkable
class PackedDecoder(Protocol):
    """Computes states of packed rows, in a part that training does not change and a part that it does."""

    def features(self, packed: Packed) -> Float[Tensor, "rows length kept"]:
        """What of the rows training does not change."""
        ...

    def states(
        self, features: Float[Tensor, "rows length kept"], packed: Packed
    ) -> Float[Tensor, "rows length hidden"]:
        """Final states, from the features of the same rows."""
        ...


def open_decoder(
    model: PreTrainedModel | PeftModel, *, upper_layers: int, rung: Scoring | None = None
) -> PackedDecoder:
    """Return the decoder of a rung; left out, of the one that was found for the model, or else of the fastest.

    Args:
        model: with or without adapters, which must be on its topmost `upper_layers` layers.
        upper_layers: what is computed anew while training.
        rung: see `Scoring`.
    """
    if rung is None:
        rung = route.scoring if (route := known_route(model)) else Scoring.SPLIT
    if rung == Scoring.SPLIT:
        return SplitDecoder(model, upper_layers=upper_layers)
    return RowDecoder(model, alone=rung == Scoring.ALONE)
