"""What a run gives a chat template besides the messages. Light to import: settings are read without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

DEFAULT_DATE = "2024-07-26"
"""The day that a template is told it is: that which Llama 3's templates say where nobody tells them."""

OURS = frozenset(
    {
        *("messages", "conversation", "conversations", "tools", "documents", "chat_template", "add_generation_prompt"),
        *("continue_final_message", "tokenize", "sanitize_control_tokens", "padding", "truncation", "max_length"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs", "strftime_now"),
        *("raise_exception", "namespace", "dict", "range", "lipsum", "cycler", "joiner"),
        *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"),
    }
)
"""Names that a template has from us, from transformers or from Jinja; no argument may take their place."""


@dataclass(frozen=True, slots=True)
class Rendering:
    """How a chat template is rendered, the same wherever and whenever that is."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Variables of the template, each a JSON value."""
    date: str = DEFAULT_DATE
    """The day that it is, for a template that asks: YYYY-MM-DD."""


def as_arguments(values: Any) -> dict[str, Any]:
    """See that a setting is a mapping of names that a template may read to JSON values.

    Raises:
        ValueError: it is not; the message is a part of a sentence.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{values!r} is no mapping; write {{NAME: VALUE}}, for example {{enable_thinking: false}}")
    if taken := sorted(str(name) for name in values if name in OURS):
        raise ValueError(
            f"{', '.join(taken)} cannot be given, for it is set by us or by the tokenizer; leave it out and name "
            "variables of the chat template alone"
        )
    for name, value in values.items():
        if not isinstance(name, str) or not name.isidentifier() or not _is_json(value):
            raise ValueError(
                f"{name!r}: {value!r} is no variable with a JSON value; allowed are texts, numbers, true, false, null, "
                "and lists and mappings of them"
            )
    return dict(values)


def as_date(value: Any) -> str:
    """See that a setting is a day; YAML makes one of an unquoted text.

    Raises:
        ValueError: it is not; the message is a part of a sentence.
    """
    text = value.isoformat() if type(value) is date else value
    try:
        if date.fromisoformat(text).isoformat() == text:
            return text
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{value!r} is no day; write YYYY-MM-DD, for example {DEFAULT_DATE}")


def _is_json(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_json(each) for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_json, value))
    return value is None or isinstance(value, (str, bool, int, float))
