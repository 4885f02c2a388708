"""A prompt and all its answers as one row: the prompt is computed once, and no answer sees another.

Attention is causal within prompt + answer, positions restart after the prompt for every answer, so each answer's
states are those of the plain sequence prompt + answer. With G answers per prompt this saves G - 1 prompts per row.
Leading tokens that all prompts share (the system prompt) are held once for all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Bool, Int
from torch import Tensor

from dr_irl.language.masks import pad_right

_PROMPT = 0
_PADDING = -1


@dataclass(frozen=True, slots=True)
class Bundle:
    """The token ids of a prompt and of its answers."""

    prompt: Sequence[int]
    answers: Sequence[Sequence[int]]

    def __len__(self) -> int:
        """Number of tokens, the prompt counted once."""
        return len(self.prompt) + sum(map(len, self.answers))


@dataclass(frozen=True, slots=True)
class Packed:
    """Bundles as padded rows, and where each answer's tokens are. Flat positions count over rows x length."""

    preamble: Int[Tensor, " shared"]
    """The leading tokens of every row, which `ids` leaves out."""
    ids: Int[Tensor, "rows length"]
    position_ids: Int[Tensor, "rows length"]
    visible: Bool[Tensor, "rows 1 length keys"]
    """[r, 0, q, k]: token q attends to key k; the keys are the preamble, then the row."""
    answer_ids: Int[Tensor, "answers tokens"]
    answer: Bool[Tensor, "answers tokens"]
    """True where an answer token counts."""
    predicted_from: Int[Tensor, "answers tokens"]
    """Flat position of the state that predicts each answer token; 0 at padding."""
    last: Int[Tensor, " answers"]
    """Flat position of each answer's last token; of the prompt's last, for an empty answer."""

    @property
    def key_position_ids(self) -> Int[Tensor, "rows keys"]:
        """Positions of the keys: of the preamble, then of the row."""
        before = torch.arange(len(self.preamble), device=self.ids.device).expand(len(self.ids), -1)
        return torch.cat([before, self.position_ids], dim=1)


def pack(bundles: Sequence[Bundle], *, pad: int, shared: int = 0, device: torch.device | str = "cpu") -> Packed:
    """Lay bundles out as rows; answers keep their order, bundle by bundle.

    Args:
        bundles: prompts with their answers.
        pad: id that fills the rows.
        shared: how many leading tokens all prompts have in common; fewer than any prompt has.
        device: where the tensors go.

    Raises:
        ValueError: the prompts do not share that many tokens.
    """
    preamble = list(bundles[0].prompt[:shared])
    if any(list(bundle.prompt[:shared]) != preamble or len(bundle.prompt) <= shared for bundle in bundles):
        raise ValueError(f"the prompts do not share {shared} leading tokens, or one has no more than these")
    rows = [[*bundle.prompt[shared:], *(token for answer in bundle.answers for token in answer)] for bundle in bundles]
    ids, _ = pad_right(rows, pad)
    length = ids.shape[1]
    segments = torch.full_like(ids, _PADDING)
    position_ids = torch.zeros_like(ids)
    sources: list[list[int]] = []
    for row, bundle in enumerate(bundles):
        start = len(bundle.prompt) - shared
        segments[row, :start] = _PROMPT
        position_ids[row, :start] = shared + torch.arange(start)
        for number, answer in enumerate(bundle.answers, start=1):
            span = slice(start, start + len(answer))
            segments[row, span] = number
            position_ids[row, span] = len(bundle.prompt) + torch.arange(len(answer))
            before = [len(bundle.prompt) - shared - 1, *range(start, start + len(answer))]
            sources.append([row * length + position for position in before])
            start += len(answer)
    answer_ids, answer = pad_right([list(a) for bundle in bundles for a in bundle.answers], pad)
    predicted_from, _ = pad_right([source[:-1] for source in sources], 0)
    return Packed(
        preamble=torch.tensor(preamble, dtype=torch.long, device=device),
        ids=ids.to(device),
        position_ids=position_ids.to(device),
        visible=F.pad(_visible(segments), (shared, 0), value=True).to(device),
        answer_ids=answer_ids.to(device),
        answer=answer.to(device),
        predicted_from=predicted_from.to(device),
        last=torch.tensor([source[-1] for source in sources], device=device),
    )


def _visible(segments: Int[Tensor, "rows length"]) -> Bool[Tensor, "rows 1 length length"]:
    keys, queries = segments[:, None, :], segments[:, :, None]
    same = (keys == queries) | ((keys == _PROMPT) & (queries != _PADDING))
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool).tril()
    # Padding attends to itself only; a row without any visible key would be NaN.
    alone = torch.eye(segments.shape[1], dtype=torch.bool)
    return ((same & causal & (keys != _PADDING)) | alone)[:, None]
