"""Final states of packed answers by the model's own decoder: one plain row per answer, nothing shared, nothing split.

Slower than `split.py`, and right where that is not: its states are laid out as the packed rows are, so that whoever
uses them need not know where they come from.
"""

import torch
from jaxtyping import Float, Int
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from dr_irl.language.anatomy import body_of
from dr_irl.language.masks import pad_right
from dr_irl.language.packing import Packed


class RowDecoder:
    """Runs a model's own decoder over prompt + answer, for each answer anew."""

    def __init__(self, model: PreTrainedModel | PeftModel, *, alone: bool = False) -> None:
        """Run all answers together, padded on the right, or each `alone`."""
        self._decoder = body_of(model)
        self._alone = alone

    def features(self, packed: Packed) -> Float[Tensor, "rows length 0"]:
        """Nothing: no layer's states are kept."""
        return torch.empty(*packed.ids.shape, 0, device=packed.ids.device)

    def states(self, features: Float[Tensor, "rows length 0"], packed: Packed) -> Float[Tensor, "rows length hidden"]:
        """Final states of the rows; those of a prompt are from its first answer's row, and padding's mean nothing."""
        sequences, source = _plain(packed)
        if self._alone:
            alone = [self._decoder(input_ids=row[None]).last_hidden_state[0] for row in sequences]
            states = nn.utils.rnn.pad_sequence(alone, batch_first=True)
        else:
            ids, real = pad_right([row.tolist() for row in sequences], 0)
            ids, mask = ids.to(packed.ids.device), real.long().to(packed.ids.device)
            states = self._decoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return states.flatten(0, 1)[source].view(*packed.ids.shape, -1)


def _plain(packed: Packed) -> tuple[list[Int[Tensor, " _"]], Int[Tensor, " places"]]:
    """Return prompt + answer of every answer, and for each place of the packed rows where it is in these, padded."""
    length, shared = packed.ids.shape[1], len(packed.preamble)
    rows, ends = packed.last // length, packed.last % length
    # The last token of an answer sees its prompt, itself, and nothing else: that is the plain sequence.
    seen = packed.visible[rows, 0, ends][:, shared:]
    sequences = [
        torch.cat([packed.preamble, packed.ids[row][places]]) for row, places in zip(rows.tolist(), seen, strict=True)
    ]
    width = max(map(len, sequences))
    source = torch.zeros_like(packed.ids)
    for number in reversed(range(len(sequences))):  # the first answer of a row last, so that its prompt stays
        source[rows[number], seen[number]] = number * width + torch.arange(
            shared, len(sequences[number]), device=source.device
        )
    return sequences, source.flatten()
