"""Makes examples of the rows of one file, and says of every other row why it is none.

What an error says of a file holds nothing that its rows say: it may be harmful, and errors are shown.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from dr_irl.categories import label_of
from dr_irl.demonstrations import chats
from dr_irl.demonstrations.dedupe import normalise
from dr_irl.errors import DataError
from dr_irl.records import Example
from dr_irl.tables.formats import require_suffix, whole_suffix
from dr_irl.tables.packed import unpacked
from dr_irl.tables.reading import Rows, TableFile, Unreadable, decode

TRAIN, HELDOUT = "train", "heldout"

_LABELS = ("harm_category", "category")
_COLUMNS = ("prompt", *_LABELS, "source", "split", "response", "draft")
_COLUMN_NAME = re.compile(r"[\w.-]{1,40}")
_HELDOUT_NAMES = ("heldout", "holdout", "held_out", "hold_out", "test", "validation", "valid", "val", "dev", "eval")
_SPLITS: Mapping[str, str] = {"train": TRAIN, "training": TRAIN} | dict.fromkeys(_HELDOUT_NAMES, HELDOUT)
"""What others call the two splits -> the one it is."""
_ANSWERS = ("chosen", "response_0", "completion", "answer")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came of a file."""

    examples: list[Example]
    bad: list[tuple[int, str]]
    """Number of a row that is not among the examples, and why."""
    unknown_labels: int
    """Of the examples, how many have a label that is none of ours; they have no category yet."""
    unread: tuple[str, ...]
    """Columns that may hold answers, and are not read, where no column that is read holds any."""


class _BadRowError(Exception):
    """Raised when one row is unusable; the message is the reason that is counted."""


def parse_examples(
    name: str, content: bytes, *, max_prompt_characters: int | None, max_bad_rows: float, prompts_only: bool = False
) -> Parsed:
    """Read a file's contents.

    Args:
        name: of the file; its suffix is its format.
        content: its bytes.
        max_prompt_characters: rows with a longer prompt are bad; None: no prompt is too long.
        max_bad_rows: share of bad rows above which the file is refused.
        prompts_only: nothing but the prompts counts, and whatever else is in the file is of no concern.

    Raises:
        DataError: it is unreadable, empty, of the wrong form, or has too many bad rows.
    """
    suffix = require_suffix(name)
    table = TableFile(unpacked(name, content), suffix, f"source {name!r}", bounded=True)
    columns, rows = _read(table, (*_COLUMNS[:1], *chats.COLUMNS) if prompts_only else (*_COLUMNS, *chats.COLUMNS))
    chat = next((column for column in chats.COLUMNS if column in columns), "")
    labels = next((column for column in _LABELS if column in columns), _LABELS[-1])
    examples: list[Example] = []
    bad: list[tuple[int, str]] = []
    unknown = 0
    for number, row in rows:
        try:
            if isinstance(row, Unreadable):
                raise _BadRowError(row.reason)
            whole = _without_chat(row, "prompt" if "prompt" in columns else chat)
            example, known = _parse_row(whole, labels, name, number, max_prompt_characters)
        except _BadRowError as reason:
            bad.append((number, str(reason)))
        else:
            examples.append(example)
            unknown += not known
    _require_mostly_good(table, bad, len(rows), max_bad_rows)
    answered = prompts_only or {"response", "draft", *chats.COLUMNS} & columns
    return Parsed(examples, bad, unknown, () if answered else tuple(c for c in _ANSWERS if c in columns))


def _read(table: TableFile, wanted: Sequence[str]) -> tuple[set[str], list[tuple[int, dict[str, Any] | Unreadable]]]:
    """Return the names of all columns, and the rows by number with what is wanted of them.

    Raises:
        DataError: there are no rows, a column is there twice, or none is `prompt`.
    """
    header = table.header()
    if header is not None:
        _require_prompt(table, header)
    columns = set(header or ())
    rows: list[tuple[int, dict[str, Any] | Unreadable]] = []
    for batch in table.batches(wanted):
        columns |= _named_by_lines(batch.rows) if header is None else set()
        values = [batch.values(column) for column in wanted]
        for number, row in zip(batch.numbers, zip(*values, strict=True), strict=True):
            lost = row[0] if isinstance(row[0], Unreadable) else None
            rows.append((number, lost or dict(zip(wanted, row, strict=True))))
    if not rows:
        raise DataError(f"{table.name} has no rows; at least one is needed; leave it out of the sources or fill it")
    if columns:  # where no line is JSON there is no column to miss: the bad lines are what is reported
        _require_prompt(table, sorted(columns) if header is None else header)
    return columns, rows


def _named_by_lines(rows: Rows) -> set[str]:
    return {name for row in rows if isinstance(row, dict) for name in row}


def _require_prompt(table: TableFile, columns: Sequence[str]) -> None:
    twice = [column for column in _COLUMNS if list(columns).count(column) > 1]
    if twice:
        raise DataError(f"{table.name}: column {twice[0]!r} occurs more than once; allowed is once; rename the rest")
    if {"prompt", *chats.COLUMNS} & {*columns}:
        return
    # A table without a header shows its first row here.
    seen = ", ".join(
        repr(column) if _COLUMN_NAME.fullmatch(column) else "one of several words" for column in columns[:12]
    )
    raise DataError(
        f"{table.name} has no column 'prompt'; its columns are {seen or 'none'}; allowed are files with the "
        "prompts under 'prompt'; rename that column"
    )


def _without_chat(row: Mapping[str, Any], column: str) -> Mapping[str, Any]:
    """Return a row with question and answer of the chat that a column holds under `prompt` and `response`."""
    chat = row.get(column)
    if column == "prompt" and not isinstance(chat, list):
        return row
    try:
        prompt, answer = chats.question_and_answer(chat)
    except ValueError as reason:
        raise _BadRowError(str(reason)) from None
    response = row.get("response")
    return {**row, "prompt": prompt, "response": answer if response is None else response}


def _parse_row(
    row: Mapping[str, Any], labels: str, name: str, number: int, max_prompt_characters: int | None
) -> tuple[Example, bool]:
    """Return a row as an example, and whether its label, if it has one, is known."""
    prompt = _text(row, "prompt")
    if prompt is None:
        raise _BadRowError("prompt is not text" if row.get("prompt") is None else "empty prompt")
    if max_prompt_characters is not None and len(prompt) > max_prompt_characters:
        raise _BadRowError("prompt too long")
    normalised = normalise(prompt)
    if not normalised:
        raise _BadRowError("empty prompt")
    label = _label(row, labels)
    example = Example(
        id=hashlib.sha256(normalised.encode()).hexdigest()[:16],
        prompt=prompt,
        category=label_of(label),
        source=_text(row, "source") or PurePosixPath(name).name.removesuffix(whole_suffix(name)),
        split=_split(row),
        draft=tuple(_draft(row.get("draft"))),
        response=_text(row, "response"),
        confidence=None,
        file=name,
        row=number,
    )
    return example, not label or example.category is not None


def _label(row: Mapping[str, Any], labels: str) -> str:
    """Return a row's label. A data set's own `category` may be of any type; then it is none of ours."""
    value = row.get(labels)
    if value is None or isinstance(value, (str, bytes)) or labels == _LABELS[0]:
        return _text(row, labels) or ""
    return type(value).__name__


def _split(row: Mapping[str, Any]) -> str:
    said = _text(row, "split")
    split = TRAIN if said is None else _SPLITS.get(re.sub(r"[\W_]+", "_", said.casefold()).strip("_"))
    if split is None:
        raise _BadRowError("unknown split (allowed: train, heldout, test, validation, dev, eval)")
    return split


def _text(row: Mapping[str, Any], column: str) -> str | None:
    """Return a value as text without outer white space; None where it is absent or nothing is left."""
    value = row.get(column)
    return None if value is None else _decoded(value, column).strip() or None


def _decoded(value: Any, column: str) -> str:
    if not isinstance(value, (bytes, str)):
        raise _BadRowError(f"{column} is not text")
    try:
        return decode(value)
    except UnicodeError:
        raise _BadRowError("invalid UTF-8") from None


def _draft(value: Any) -> Iterator[str]:
    """Give the steps of a draft: the items of a list, or the lines of a text."""
    steps = value if isinstance(value, list) else [] if value is None else _decoded(value, "draft").splitlines()
    for step in steps:
        if stripped := _decoded(step, "draft").strip():
            yield stripped


def _require_mostly_good(table: TableFile, bad: Sequence[tuple[int, str]], rows: int, max_bad_rows: float) -> None:
    if bad and len(bad) / rows > max_bad_rows:
        number, reason = bad[0]
        raise DataError(
            f"{table.name}: {len(bad)} of {rows} rows ({len(bad) / rows:.1%}) are unusable, the first of them row "
            f"{number}: {reason}; allowed is a share of {max_bad_rows:.1%}; mend the file or raise sources.max_bad_rows"
        )
