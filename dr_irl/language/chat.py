"""Prompts and answers as token ids, always through the model's own chat template."""

from collections.abc import Sequence
from itertools import takewhile
from typing import cast

from transformers import PreTrainedTokenizerBase


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that pads rows; `load_tokenizer` sees to it that there is one."""
    return int(cast(int, tokenizer.pad_token_id))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """Render each prompt as one user turn, ready for the assistant's answer."""
    texts: list[str] = [
        tokenizer.apply_chat_template([{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True)  # pyright: ignore[reportAssignmentType]
        for p in prompts
    ]
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


def preamble_length(tokenizer: PreTrainedTokenizerBase) -> int:
    """Count the leading tokens that every prompt shares: system prompt and turn markers, up to the last special token.

    A special token is never merged with what follows, so the count holds for any prompt.
    """
    special = {int(token) for token in tokenizer.all_special_ids}
    first, second = prompt_ids(tokenizer, ["a", "b"])
    same = list(takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
    return max((position + 1 for position, (token, _) in enumerate(same) if token in special), default=0)


def response_ids(tokenizer: PreTrainedTokenizerBase, responses: Sequence[str], *, limit: int) -> list[list[int]]:
    """Tokenise answers, each closed by the end token unless it is longer than `limit` tokens and cut there."""
    if not responses:
        return []
    bodies = tokenizer(list(responses), add_special_tokens=False)["input_ids"]
    return [[*ids, tokenizer.eos_token_id][:limit] for ids in bodies]
