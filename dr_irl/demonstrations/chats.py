"""Reads a question and its answer from a chat, in the two forms that data sets have: role/content and from/value."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ("messages", "conversations", "conversation", "dialogue")
"""Columns that hold chats, where there is no `prompt`."""

_ROLES: Mapping[str, str] = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "system": "system",
    "developer": "system",
}


def question_and_answer(chat: Any) -> tuple[Any, Any]:
    """Return the question and the answer of a chat of one turn; without an answer, None. A system turn is left out.

    Args:
        chat: a list of `{role, content}` or `{from, value}`.

    Raises:
        ValueError: it is something else; the words are the same for every such chat.
    """
    if not isinstance(chat, list) or not all(isinstance(turn, dict) for turn in chat):
        raise ValueError("prompt is not text")
    turns = [(_ROLES.get(str(t.get("role") or t.get("from")).lower()), t.get("content", t.get("value"))) for t in chat]
    spoken = [(role, said) for role, said in turns if role != "system"]
    if [role for role, _ in spoken] not in (["user"], ["user", "assistant"]):
        raise ValueError("a chat of more than a question and its answer")
    return spoken[0][1], spoken[1][1] if len(spoken) > 1 else None
