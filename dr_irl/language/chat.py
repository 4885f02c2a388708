"""Prompts and answers as token ids, always through the model's own chat template."""

from collections.abc import Collection, Sequence
from itertools import takewhile
from typing import Any, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from dr_irl.errors import ModelError
from dr_irl.language.control import control_tokens, spelt_out, text_ids, turn_ids, without_markers
from dr_irl.language.thoughts import answer_of, marks_among

_QUESTION, _ANSWER = "dr irl question", "dr irl answer"
"""Turns that no template writes by itself."""


def rendered_prompt(tokenizer: PreTrainedTokenizerBase) -> str:
    """Render a question of our own, up to where the assistant's answer begins.

    Raises:
        ModelError: the chat template leaves a prompt out, or cannot be rendered.
    """
    return _rendered(tokenizer, [("user", _QUESTION)], opens_answer=True)[0]


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that pads rows; `load_tokenizer` sees to it that there is one."""
    return int(cast(int, tokenizer.pad_token_id))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """Render each prompt as one user turn, ready for the assistant's answer; what it says is text, whatever it says.

    Raises:
        ModelError: the chat template leaves a prompt out, or cannot be rendered.
        DataError: a prompt spells out a control token that the tokenizer cannot read as text.
    """
    if not prompts:
        return []
    found = [_rendered(tokenizer, [("user", prompt)], opens_answer=True) for prompt in prompts]
    rows = tokenizer([text for text, _ in found], add_special_tokens=False)["input_ids"]
    for place in spelt_out(prompts, control_tokens(tokenizer)):
        rows[place] = turn_ids(tokenizer, found[place][1], opens_answer=True)
    return rows


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the special token that closes an answer in the chat template; the end token where it closes with none."""
    text, _ = _rendered(tokenizer, [("user", _QUESTION), ("assistant", _ANSWER)], opens_answer=False)
    after = tokenizer(text.rpartition(_ANSWER)[2], add_special_tokens=False)["input_ids"]
    # A turn's end need not be among the tokens that the tokenizer has a use for.
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= {int(token) for token in tokenizer.all_special_ids}
    found = next((token for token in after if token in special), tokenizer.eos_token_id)
    return cast(int | None, found)


def end_ids(tokenizer: PreTrainedTokenizerBase, own: int | Sequence[int] | None) -> frozenset[int]:
    """Return every token that ends an answer: those at which `generate` stops, and what closes a turn.

    Args:
        tokenizer: with a chat template.
        own: `eos_token_id` of the model's generation settings.
    """
    of_model = [own] if isinstance(own, int) else list(own or ())
    return frozenset(
        int(id) for id in (*of_model, cast(Any, tokenizer.eos_token_id), turn_end(tokenizer)) if id is not None
    )


def preamble_length(tokenizer: PreTrainedTokenizerBase) -> int:
    """Count the leading tokens that every prompt shares: system prompt and turn markers, up to the last special token.

    A special token is never merged with what follows, so the count holds for any prompt.
    """
    special = {int(token) for token in tokenizer.all_special_ids}
    first, second = prompt_ids(tokenizer, ["a", "b"])
    same = list(takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
    return max((position + 1 for position, (token, _) in enumerate(same) if token in special), default=0)


def response_ids(tokenizer: PreTrainedTokenizerBase, responses: Sequence[str], *, limit: int) -> list[list[int]]:
    """Tokenise answers, each opened and closed as the template does, and cut at `limit` tokens, all of them counted.

    Thoughts and markers of the turn are left out: see `bare_answers`.
    """
    if not responses:
        return []
    end, opening = turn_end(tokenizer), _opening_ids(tokenizer)
    bodies = text_ids(tokenizer, bare_answers(tokenizer, responses))
    return [[*opening, *ids, end][:limit] for ids in bodies]


def bare_answers(tokenizer: PreTrainedTokenizerBase, responses: Sequence[str]) -> list[str]:
    """Leave out the thoughts of answers, and what stands around a turn where a log was cut in the wrong place."""
    prompt = rendered_prompt(tokenizer)
    asked, _ = _rendered(tokenizer, [("user", _QUESTION)], opens_answer=False)
    header = prompt.removeprefix(asked) if prompt.startswith(asked) else ""
    end = tokenizer.convert_ids_to_tokens([cast(int, turn_end(tokenizer))])
    ends = [*end, *([str(tokenizer.eos_token)] if tokenizer.eos_token else [])]
    header = header if spelt_out([header], control_tokens(tokenizer)) else ""
    return [answer_of(without_markers(text, header=header, ends=ends)) for text in responses]


def thought_marks(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the special tokens that part a thought from an answer; empty where they are ordinary ones, or none."""
    special = {token.content: id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(special[mark] for mark in marks_among(special))


def sampled_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], marks: Collection[int]) -> str:
    """Decode what was sampled, its end token left out, without special tokens but for `marks`."""
    if not any(id in marks for id in ids):
        return str(tokenizer.decode(list(ids), skip_special_tokens=True)).strip()
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special} - set(marks)
    return str(tokenizer.decode([id for id in ids if id not in special])).strip()


def _opening_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return what the template writes between a prompt and its answer, such as an empty thought or a channel's name.

    White space alone is left to the answer.
    """
    answered, _ = _rendered(tokenizer, [("user", _QUESTION), ("assistant", _ANSWER)], opens_answer=False)
    before, prompt = answered.rpartition(_ANSWER)[0], rendered_prompt(tokenizer)
    opening = before.removeprefix(prompt) if before.startswith(prompt) else ""
    return tokenizer(opening, add_special_tokens=False)["input_ids"] if opening.strip() else []


def _rendered(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[tuple[str, str]], *, opens_answer: bool
) -> tuple[str, list[dict[str, Any]]]:
    """Render turns, their texts as they are or, where the template leaves them out, as a list of parts.

    Returns:
        What they come to, and the turns as the template was given them.
    """
    reason = "leaves the text of a turn out"
    for as_content in (lambda text: text, lambda text: [{"type": "text", "text": text}]):
        messages: list[dict[str, Any]] = [{"role": role, "content": as_content(text)} for role, text in turns]
        try:
            found = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opens_answer)
        except (TemplateError, TypeError, ValueError) as error:
            reason = f"cannot be rendered ({' '.join(str(error).split())[:100]})"
            continue
        if all(text.strip() in str(found) for _, text in turns):
            return str(found), messages
    raise ModelError(
        f"the chat template of {tokenizer.name_or_path!r} {reason}; mend its chat_template, or name another instruct "
        "model"
    )
