"""Samples completions with a decode loop that reads each prompt once, where the model allows it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dr_irl.errors import DataError
from dr_irl.language.anatomy import context_length
from dr_irl.language.chat import end_ids, padding_id, preamble_length, prompt_ids, sampled_text, thought_marks
from dr_irl.language.decoding import open_reader
from dr_irl.language.route import Decoding, known_route
from dr_irl.language.thoughts import answer_of


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled answer."""

    token_ids: tuple[int, ...]
    """With the end token, where the model produced it."""
    text: str
    """All that was said, thoughts included."""
    truncated: bool
    """True where the length limit ended it, not the end token."""

    @property
    def answer(self) -> str:
        """The text without its thoughts: what is rewarded and judged; empty where a thought has no end."""
        return answer_of(self.text)


@runtime_checkable
class Sampler(Protocol):
    """Anything that completes prompts."""

    def sample(self, prompts: Sequence[str], *, per_prompt: int, generator: torch.Generator) -> list[list[Sample]]:
        """Return `per_prompt` completions of each prompt, in the order of the prompts."""
        ...


class MakeSampler(Protocol):
    """What makes a sampler of a model: a class as `CachedPrefixSampler`, or a function."""

    def __call__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_new_tokens: int,
        temperature: float,
        rows_at_once: int,
        report: Callable[[int], object],
    ) -> Sampler:
        """Sample from `model`; `temperature` 0 is greedy; `report` hears how many tokens each batch produced."""
        ...


class CachedPrefixSampler:
    """Runs what all prompts share once and each prompt once, repeats caches per completion, drops finished rows.

    A model that this is wrong for is read in the way that was found for it when it was loaded: see `route.py`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        rows_at_once: int = 64,
        report: Callable[[int], object] = lambda tokens: None,
    ) -> None:
        """Sample from `model`; `temperature` 0 is greedy; `report` hears how many tokens each batch produced."""
        self.model, self.tokenizer = model, tokenizer
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.rows_at_once, self.report = rows_at_once, report
        # Like `generate`; a model that cannot generate has no such settings.
        own = getattr(model, "generation_config", None)
        self._ends = end_ids(tokenizer, own.eos_token_id if own else None)
        self._marks = thought_marks(tokenizer) - self._ends
        self._decoding = route.decoding if (route := known_route(model)) else Decoding.SHARED

    @torch.inference_mode()
    def sample(self, prompts: Sequence[str], *, per_prompt: int, generator: torch.Generator) -> list[list[Sample]]:
        """Return `per_prompt` completions of each prompt, in the order of the prompts.

        One uniform number is drawn beforehand for every token that may be sampled, so that neither batching nor
        rows that finish early shift the numbers of the others.

        Raises:
            DataError: a prompt leaves no room for an answer in the model's context.
        """
        ids = prompt_ids(self.tokenizer, prompts)
        self._check_room(ids)
        uniforms = torch.rand(len(ids), per_prompt, self.max_new_tokens, generator=generator, dtype=torch.float64)
        order = sorted(range(len(ids)), key=lambda i: (len(ids[i]), i))
        at_once = max(1, self.rows_at_once // per_prompt) if self._decoding == Decoding.SHARED else 1
        found: dict[int, list[Sample]] = {}
        for start in range(0, len(order), at_once):
            batch = order[start : start + at_once]
            rows = self._decode([ids[i] for i in batch], uniforms[batch].flatten(0, 1))
            for position, index in enumerate(batch):
                found[index] = [self._to_sample(r) for r in rows[position * per_prompt : (position + 1) * per_prompt]]
            self.report(sum(map(len, rows)))
        return [found[index] for index in range(len(ids))]

    def _check_room(self, prompts: Sequence[Sequence[int]]) -> None:
        longest, context = max(map(len, prompts), default=0), context_length(self.model.config)
        if context is not None and longest + self.max_new_tokens > context:
            raise DataError(
                f"a prompt of {longest} tokens and an answer of up to {self.max_new_tokens} exceed the model's context "
                f"of {context} tokens; shorten it, or lower sources.max_prompt_characters, which drops such prompts"
            )

    def _decode(self, prompts: list[list[int]], uniforms: Float64[Tensor, "rows max_new_tokens"]) -> list[list[int]]:
        """Decode one batch; with G completions per prompt, row r completes prompt r // G."""
        device = self.model.device
        uniforms = uniforms.to(device)
        ends = torch.tensor(sorted(self._ends), device=device)
        per_prompt = len(uniforms) // len(prompts)
        shared = preamble_length(self.tokenizer)
        reader = open_reader(self.model, self._decoding, pad=padding_id(self.tokenizer), shared=shared)
        logits = reader.start(prompts, per_prompt)
        alive = torch.arange(len(logits), device=device)
        rows: list[list[int]] = [[] for _ in range(len(logits))]
        for step in range(self.max_new_tokens):
            tokens = self._draw(logits, uniforms[alive, step])
            for row, token in zip(alive.tolist(), tokens.tolist(), strict=True):
                rows[row].append(token)
            going = ~torch.isin(tokens, ends)
            if step + 1 == self.max_new_tokens or not going.any():
                break
            if not going.all():
                keep = going.nonzero()[:, 0]
                reader.keep(keep)
                alive, tokens = alive[keep], tokens[keep]
            logits = reader.step(tokens)
        return rows

    def _draw(
        self, logits: Float[Tensor, "rows vocabulary"], uniforms: Float64[Tensor, " rows"]
    ) -> Int[Tensor, " rows"]:
        """Draw one token per row by inverting the cumulative distribution; temperature 0 takes the likeliest."""
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        cumulative = (logits.float() / self.temperature).softmax(dim=-1).cumsum(dim=-1)
        targets = (uniforms * cumulative[:, -1]).to(cumulative.dtype)
        return torch.searchsorted(cumulative, targets[:, None], right=True)[:, 0].clamp(max=logits.shape[-1] - 1)

    def _to_sample(self, token_ids: list[int]) -> Sample:
        finished = token_ids[-1] in self._ends
        text = sampled_text(self.tokenizer, token_ids, self._marks)
        return Sample(token_ids=tuple(token_ids), text=text, truncated=not finished)
