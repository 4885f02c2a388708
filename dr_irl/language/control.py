"""Control tokens that a text spells out: text in what people wrote, litter at the end of an answer."""

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

from transformers import PreTrainedTokenizerBase

from dr_irl.errors import DataError

_ENDS: Final = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "<|return|>", "<|eot|>"),
    *("</s>", "<eos>", "<end_of_turn>", "<turn|>", "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>", "<|end_of_turn|>"),
    *("[|endofturn|]", "<|role_end|>", "<|eos|>", "<|endofprompt|>"),
)
"""What closes a turn, or a text, in other people's models: an answer may come from any of them."""


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the texts of all tokens that mean something to the model: special ones, and those of its chat template."""
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted({*special, *tokenizer.all_special_tokens, *(tokenizer.chat_control_tokens or ())})


def spelt_out(texts: Sequence[str], tokens: Collection[str]) -> list[int]:
    """Return the places of the texts in which a control token is spelt out."""
    found = _any_of(tokens)
    return [place for place, text in enumerate(texts) if found.search(text)]


def text_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Tokenise texts, in which control tokens that are spelt out stay text.

    Raises:
        DataError: the tokenizer makes a control token of it all the same.
    """
    rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    for place in spelt_out(texts, control_tokens(tokenizer)):
        turns = [{"role": "user", "content": texts[place]}]
        rows[place] = turn_ids(tokenizer, turns, opens_answer=False, chat_template="{{ messages[0]['content'] }}")
    return rows


def turn_ids(
    tokenizer: PreTrainedTokenizerBase,
    turns: Sequence[dict[str, Any]],
    *,
    opens_answer: bool,
    chat_template: str | None = None,
) -> list[int]:
    """Render turns and tokenise them; control tokens that the turns spell out stay text.

    Raises:
        DataError: the tokenizer makes a control token of it all the same.
    """
    try:
        ids = tokenizer.apply_chat_template(
            list(turns),
            chat_template=chat_template,
            add_generation_prompt=opens_answer,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=True,
        )
    except ValueError as error:
        raise DataError(
            f"a text spells out a control token of {tokenizer.name_or_path!r} that its tokenizer cannot read as text "
            f"({error}); remove it"
        ) from error
    return list(ids)  # pyright: ignore[reportArgumentType, reportReturnType] - one conversation, no dictionary


def without_markers(text: str, *, header: str, ends: Collection[str]) -> str:
    """Return an answer without the markers of its turn; as it is where there are none.

    Args:
        text: an answer.
        header: what a template writes before an answer.
        ends: texts of the tokens that end an answer; those of other models are known here.
    """
    if (head := header.strip()) and text.lstrip().startswith(head):
        text = text.lstrip().removeprefix(head).lstrip()
    known = (*ends, *_ENDS)
    while end := next((each for each in known if text.rstrip().endswith(each)), None):
        text = text.rstrip().removesuffix(end).rstrip()
    return text


def _any_of(tokens: Collection[str]) -> re.Pattern[str]:
    """Match any of some tokens, the longest first; nothing where there are none."""
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)) or r"(?!)")
