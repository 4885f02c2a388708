"""What a model thinks before it answers: markers of thoughts, and texts without them. Pure, and light to import.

Every token that was sampled is trained; rewards, distances and judges are given the answer alone.
"""

import re
from collections.abc import Collection
from typing import Final

_CHANNEL: Final = "<|channel>"
PAIRS: Final = (
    ("<think>", "</think>"),
    ("<thought>", "</thought>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|think|>", "<|/think|>"),
    (f"{_CHANNEL}thought", "<channel|>"),
)
"""How a thought begins and how it ends."""
_HARMONY: Final = ("<|channel|>", "<|message|>")
"""What says of which kind a message is, and where its text begins, in templates that answer in several messages."""
_OF_MESSAGES: Final = (*_HARMONY, "<|start|>", "<|end|>")

_FINAL = "final"
_MESSAGE = re.compile(
    r"<\|channel\|>\s*(\w+)[^<]*<\|message\|>(.*?)(?=<\|end\|>|<\|return\|>|<\|call\|>|<\|start\|>|<\|channel\|>|\Z)",
    re.DOTALL,
)


def answer_of(text: str) -> str:
    """Return a completion without its thoughts, stripped; empty where a thought has no end.

    A thought that only ends in the text was begun by the prompt. Texts without a marker come back as they are.
    """
    if _HARMONY[0] in text:
        return "\n".join(body.strip() for kind, body in _MESSAGE.findall(text) if kind == _FINAL)
    for begin, end in PAIRS:
        if begin in text or end in text:
            text = _outside(text, begin, end).strip()
    return text


def marks_among(tokens: Collection[str]) -> set[str]:
    """Return the tokens of a vocabulary by which a thought is told from an answer.

    Some are special, and left out of a decoded text by default: the thought would then read as part of the answer.
    """
    known = {*(mark for pair in PAIRS for mark in pair), _CHANNEL}
    if all(token in tokens for token in _HARMONY):
        known |= set(_OF_MESSAGES)
    return known.intersection(tokens)


def open_thought(rendered: str) -> str | None:
    """Return what closes the thought that a rendered prompt ends in, white space included; None where it is in none."""
    body = rendered.rstrip()
    after = rendered[len(body) :]
    for begin, end in PAIRS:
        if body.endswith(begin):
            gap = "\n\n" if "\n" in after else ""
            return f"{after}{end}{gap}"
    return None


def _outside(text: str, begin: str, end: str) -> str:
    """Cut out all that stands between `begin` and `end`."""
    said = ""
    while True:
        before, opened, rest = text.partition(begin)
        # An end without a beginning: all up to it was thought.
        if end in before:
            said, before = "", before.rpartition(end)[2]
        said += before
        if not opened:
            return said
        _, closed, text = rest.partition(end)
        if not closed:
            return ""
