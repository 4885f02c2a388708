"""Next-token logits while answers grow: prompts read once and their caches repeated, or slower ways that always hold.

A reader is told the prompts, then, token by token, what was drawn for the rows that go on.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from dr_irl.language.anatomy import decoder_of
from dr_irl.language.masks import pad_left, positions
from dr_irl.language.own_head import head_of
from dr_irl.language.route import Decoding
from dr_irl.language.windows import Mask, has_windows, layer_masks


@runtime_checkable
class Reader(Protocol):
    """Reads prompts and what follows them; with G answers per prompt, row r belongs to prompt r // G."""

    def start(self, prompts: Sequence[Sequence[int]], per_prompt: int) -> Float[Tensor, "rows vocabulary"]:
        """Read the prompts; returns the logits of every row's first token."""
        ...

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these of the present rows."""
        ...

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocabulary"]:
        """Add one token to every row; returns the logits of the next one."""
        ...


def open_reader(model: PreTrainedModel, decoding: Decoding, *, pad: int, shared: int) -> Reader:
    """Return what reads in this way; `shared` leading tokens are the same in all prompts, and rows are padded by `pad`.

    A reader other than that of `Decoding.SHARED` takes one prompt at a time.
    """
    if decoding == Decoding.SHARED:
        return SharedReader(model, pad=pad, shared=shared)
    return CachedReader(model) if decoding == Decoding.CACHED else WholeReader(model)


class SharedReader:
    """Reads what all prompts share once and each prompt once, and repeats caches per answer."""

    def __init__(self, model: PreTrainedModel, *, pad: int, shared: int) -> None:
        """See `open_reader`."""
        self._model, self._pad, self._shared = model, pad, shared
        self._decoder, self._head = decoder_of(model), head_of(model)
        # Where layers see a window, what each of them may drop from its cache depends on padding: nothing is dropped.
        self._windows = has_windows(model.config)
        self._cache, self._mask = DynamicCache(), torch.empty(0, 0, dtype=torch.bool)

    def start(self, prompts: Sequence[Sequence[int]], per_prompt: int) -> Float[Tensor, "rows vocabulary"]:
        """Read the prompts; returns the logits of every row's first token."""
        device, shared = self._model.device, self._shared
        ids, real = (t.to(device) for t in pad_left([p[shared:] for p in prompts], self._pad))
        real = torch.cat([real.new_ones(len(real), shared), real], dim=1)
        self._cache = DynamicCache() if self._windows else DynamicCache(config=self._model.config)
        if shared:
            preamble = torch.tensor([list(prompts[0][:shared])], device=device)
            self._decoder(input_ids=preamble, past_key_values=self._cache, use_cache=True)
            self._cache.batch_repeat_interleave(len(prompts))
        logits = self._next(ids, real, positions(real)[:, shared:]).repeat_interleave(per_prompt, dim=0)
        self._cache.batch_repeat_interleave(per_prompt)
        self._mask = real.repeat_interleave(per_prompt, dim=0)
        return logits

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these of the present rows."""
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocabulary"]:
        """Add one token to every row; returns the logits of the next one."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
        return self._next(tokens[:, None], self._mask, positions(self._mask)[:, -1:])

    def _next(
        self, ids: Int[Tensor, "rows new"], mask: Bool[Tensor, "rows length"], position_ids: Int[Tensor, "rows new"]
    ) -> Float[Tensor, "rows vocabulary"]:
        hidden = self._decoder(
            input_ids=ids,
            attention_mask=self._visible(mask, position_ids) if self._windows else mask.long(),
            position_ids=position_ids,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        # Only the last position needs logits. Contiguous, or the product copies the vocabulary once per row.
        return self._head(hidden[:, -1].contiguous())

    def _visible(
        self, mask: Bool[Tensor, "rows keys"], position_ids: Int[Tensor, "rows length"]
    ) -> Mask | dict[str, Mask]:
        """Draw what the new tokens attend to: real tokens up to themselves; padding sees itself."""
        new, length = position_ids.shape[1], mask.shape[1]
        places = torch.arange(length, device=mask.device)
        queries = places[length - new :, None]
        visible = (mask[:, None, :] & (places <= queries)) | (places == queries)
        return layer_masks(self._model, visible[:, None], queries=position_ids, keys=positions(mask))


class CachedReader:
    """Reads one prompt's rows through the model's own `forward`, on the cache that it makes for itself."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Read with `model`."""
        self._model, self._cache = model, None
        self._length = 0
        self._rows = torch.empty(0, dtype=torch.long)
        self._tokens = torch.empty(0, dtype=torch.long)

    def start(self, prompts: Sequence[Sequence[int]], per_prompt: int) -> Float[Tensor, "rows vocabulary"]:
        """Read the one prompt; returns the logits of every row's first token.

        Raises:
            NotImplementedError: the family keeps no cache that is called `past_key_values`.
        """
        ids = _only(prompts, per_prompt, self._model)
        self._cache, self._length = None, 0
        self._rows = torch.arange(per_prompt, device=ids.device)
        self._tokens = ids[:, 0].clone()
        return self._next(ids)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these of the present rows; the others stay in the cache, whose kind is not known here."""
        self._rows = self._rows[rows]

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocabulary"]:
        """Add one token to every row; returns the logits of the next one."""
        self._tokens[self._rows] = tokens
        return self._next(self._tokens[:, None])

    def _next(self, ids: Int[Tensor, "all new"]) -> Float[Tensor, "rows vocabulary"]:
        self._length += ids.shape[1]
        mask = torch.ones(len(ids), self._length, dtype=torch.long, device=ids.device)
        given = {} if self._cache is None else {"past_key_values": self._cache}
        output = self._model(input_ids=ids, attention_mask=mask, use_cache=True, **given, **_last_only(self._model))
        self._cache = getattr(output, "past_key_values", None)
        if self._cache is None:
            raise NotImplementedError(f"{type(self._model).__name__} keeps no past_key_values")
        return output.logits[:, -1][self._rows]


class WholeReader:
    """Reads one prompt's rows through the model's own `forward`, from the first token on, for every token."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Read with `model`."""
        self._model = model
        self._ids = torch.empty(0, 0, dtype=torch.long)

    def start(self, prompts: Sequence[Sequence[int]], per_prompt: int) -> Float[Tensor, "rows vocabulary"]:
        """Read the one prompt; returns the logits of every row's first token."""
        self._ids = _only(prompts, per_prompt, self._model)
        return self._next()

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these of the present rows."""
        self._ids = self._ids[rows]

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocabulary"]:
        """Add one token to every row; returns the logits of the next one."""
        self._ids = torch.cat([self._ids, tokens[:, None]], dim=1)
        return self._next()

    def _next(self) -> Float[Tensor, "rows vocabulary"]:
        return self._model(input_ids=self._ids, **_last_only(self._model)).logits[:, -1]


def _only(prompts: Sequence[Sequence[int]], per_prompt: int, model: PreTrainedModel) -> Int[Tensor, "rows length"]:
    [prompt] = prompts
    return torch.tensor([list(prompt)] * per_prompt, device=model.device)


def _last_only(model: PreTrainedModel) -> dict[str, Any]:
    """Ask for the logits of the last position alone, where the family lets itself be asked."""
    return {"logits_to_keep": 1} if cast(Any, model)._supports_logits_to_keep() else {}
