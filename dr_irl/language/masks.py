"""Padding. A mask is True where a token counts."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def pad_left(
    sequences: Sequence[Sequence[int]], fill: int
) -> tuple[Int[Tensor, "rows length"], Bool[Tensor, "rows length"]]:
    """Pad token ids on the left; returns the ids and the mask of real tokens."""
    return _pad(sequences, fill, on_left=True)


def pad_right(
    sequences: Sequence[Sequence[int]], fill: int
) -> tuple[Int[Tensor, "rows length"], Bool[Tensor, "rows length"]]:
    """Pad token ids on the right; returns the ids and the mask of real tokens."""
    return _pad(sequences, fill, on_left=False)


def positions(mask: Bool[Tensor, "rows length"]) -> Int[Tensor, "rows length"]:
    """Number the real tokens of each row from 0; padding gets 0."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def micro_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Group row indices by similar length so that padded rows x length stays within `max_tokens`.

    Rows are taken longest first; a row longer than `max_tokens` is a group of its own.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= max_tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def _pad(
    sequences: Sequence[Sequence[int]], fill: int, *, on_left: bool
) -> tuple[Int[Tensor, "rows length"], Bool[Tensor, "rows length"]]:
    width = max(map(len, sequences))
    ids = torch.full((len(sequences), width), fill, dtype=torch.long)
    mask = torch.zeros((len(sequences), width), dtype=torch.bool)
    for row, tokens in enumerate(sequences):
        span = slice(width - len(tokens), width) if on_left else slice(0, len(tokens))
        ids[row, span] = torch.tensor(tokens, dtype=torch.long)
        mask[row, span] = True
    return ids, mask
