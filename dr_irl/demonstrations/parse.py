"""Reads the contents of one Parquet, JSONL or CSV file: rows that can be used, and why the others cannot.

What an error says of a file holds nothing that its rows say: it may be harmful, and errors are shown.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from dr_irl.categories import ALL_LABELS
from dr_irl.demonstrations.dedupe import normalise
from dr_irl.errors import DataError
from dr_irl.records import Example

SPLITS = ("train", "heldout")
UNKNOWN_CATEGORY = "unknown category"
"""Counted beside the reasons for dropping, but such rows are kept, without a category."""
SUFFIXES = (".parquet", ".jsonl", ".csv")

_TEXT_COLUMNS = ("prompt", "category", "harm_category", "source", "split", "response")
_COLUMNS = (*_TEXT_COLUMNS, "draft")
_COLUMN_NAME = re.compile(r"[\w.-]{1,40}")

_NumberedRow = tuple[int, dict[str, Any] | str]
"""Row or line number from 1, and the row: column -> value, text still as bytes or str; or why it is unreadable."""


class _BadRowError(Exception):
    """Raised when one row is unusable; the message is the reason that is counted."""


def parse_examples(
    name: str, content: bytes, *, max_prompt_characters: int, max_bad_rows: float
) -> tuple[list[Example], Counter[str]]:
    """Read a file's contents; arguments, result and errors are those of `sources.load_examples`."""
    require_suffix(name)
    rows = _read_rows(name, content)
    found, bad = _parse_rows(name, rows, max_prompt_characters)
    _require_mostly_good(name, bad, len(rows), max_bad_rows)
    counts = Counter(reason for _, reason in bad)
    counts.update(UNKNOWN_CATEGORY for _, unknown in found if unknown)
    return [example for example, _ in found], counts


def require_suffix(name: str) -> None:
    """Refuse a file whose name does not tell that we can read it.

    Raises:
        DataError: it does not.
    """
    if PurePosixPath(name).suffix.lower() not in SUFFIXES:
        raise DataError(
            f"source {name!r}: its suffix is {PurePosixPath(name).suffix!r}; allowed are "
            f"{', '.join(SUFFIXES)}, or the word 'seed'; convert it to one of these"
        )


def _read_rows(name: str, content: bytes) -> list[_NumberedRow]:
    if name.lower().endswith(".jsonl"):
        rows = _jsonl_rows(content)
        columns = sorted({key for _, row in rows if isinstance(row, dict) for key in row})
        # Where no line is JSON there is no column to miss: the bad lines are what is reported.
        if columns or not rows:
            _require_prompt(name, columns, len(rows))
        return rows
    table, columns = _table(name, content)
    _require_prompt(name, columns, table.num_rows)
    values = [_as_bytes(name, column, table.column(column)).to_pylist() for column in table.column_names]
    rows = (dict(zip(table.column_names, row, strict=True)) for row in zip(*values, strict=True))
    return list(enumerate(rows, start=1))


def _require_prompt(name: str, columns: Sequence[str], rows: int) -> None:
    if rows == 0:
        raise DataError(f"source {name!r} has no rows; at least one is needed; leave it out of the sources or fill it")
    twice = [column for column in _COLUMNS if list(columns).count(column) > 1]
    if twice:
        raise DataError(f"source {name!r}: column {twice[0]!r} occurs more than once; allowed is once; rename the rest")
    if "prompt" not in columns:
        # A table without a header shows its first row here.
        seen = ", ".join(
            repr(column) if _COLUMN_NAME.fullmatch(column) else "one of several words" for column in columns[:12]
        )
        raise DataError(
            f"source {name!r} has no column 'prompt'; its columns are {seen or 'none'}; allowed are files with the "
            "prompts under 'prompt'; rename that column"
        )


def _jsonl_rows(content: bytes) -> list[_NumberedRow]:
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [(number, _json_row(line)) for number, line in enumerate(lines, start=1) if line.strip()]


def _json_row(line: bytes) -> dict[str, Any] | str:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return "invalid UTF-8"
    except (ValueError, RecursionError):
        return "no JSON"
    if not isinstance(row, dict):
        return "no JSON object"
    return row


def _table(name: str, content: bytes) -> tuple[pa.Table, list[str]]:
    """Return the columns we know as a table, and the names of all columns there are."""
    try:
        if name.lower().endswith(".parquet"):
            file = pq.ParquetFile(BytesIO(content))
            names = file.schema_arrow.names
            return file.read(columns=[column for column in _COLUMNS if column in names]), names
        table = pa_csv.read_csv(
            BytesIO(content),
            # One block, since a value of more than a block is refused.
            read_options=pa_csv.ReadOptions(block_size=min(max(len(content), 1 << 20), (1 << 31) - 1)),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            # Binary, so that invalid UTF-8 spoils a row, not the file.
            convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(_COLUMNS, pa.binary())),
        )
        names = table.column_names
        once = [column for column in _COLUMNS if names.count(column) == 1]
        return table.select(once), names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        kind = PurePosixPath(name).suffix.lower().removeprefix(".")
        reason = re.sub(r"(Expected \d+ columns, got \d+):.*", r"\1", str(error), flags=re.DOTALL).partition("\n")[0]
        raise DataError(
            f"source {name!r} cannot be read as {kind}: {reason}; allowed is a whole {kind} file with UTF-8 text; "
            "write it again or give it the suffix of its format"
        ) from error


def _as_bytes(name: str, column: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Turn a column of text (or of lists of text, for drafts) into bytes, which Arrow hands out undecoded."""
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if _is_text(kind) or (pa.types.is_null(kind) and column != "prompt"):
        return values.cast(kind).cast(pa.large_binary())
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if column == "draft" and is_list and (_is_text(kind.value_type) or pa.types.is_null(kind.value_type)):
        return values.cast(pa.large_list(pa.large_binary()))
    allowed = "string or list of strings" if column == "draft" else "string"
    raise DataError(f"source {name!r}: column {column!r} is of type {kind}; allowed is {allowed}; convert it")


def _is_text(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    # CSV columns arrive as binary, see `_table`; binary Parquet columns are text where they decode.
    return any(test(kind) for test in (*tests, pa.types.is_binary, pa.types.is_large_binary))


def _parse_rows(
    name: str, rows: Sequence[_NumberedRow], max_prompt_characters: int
) -> tuple[list[tuple[Example, bool]], list[tuple[int, str]]]:
    """Return the usable rows, each with whether its label was unknown, and number and reason of the others."""
    default_source = PurePosixPath(name).stem
    columns = {column for _, row in rows if isinstance(row, dict) for column in row}
    labels = "harm_category" if "harm_category" in columns else "category"
    found: list[tuple[Example, bool]] = []
    bad: list[tuple[int, str]] = []
    for number, row in rows:
        try:
            if isinstance(row, str):
                raise _BadRowError(row)
            found.append(_parse_row(row, labels, default_source, max_prompt_characters))
        except _BadRowError as reason:
            bad.append((number, str(reason)))
    return found, bad


def _parse_row(
    row: Mapping[str, Any], labels: str, default_source: str, max_prompt_characters: int
) -> tuple[Example, bool]:
    prompt = _text(row, "prompt")
    if prompt is None:
        raise _BadRowError("prompt is not text" if row.get("prompt") is None else "empty prompt")
    if len(prompt) > max_prompt_characters:
        raise _BadRowError("prompt too long")
    normalised = normalise(prompt)
    if not normalised:
        raise _BadRowError("empty prompt")
    split = _text(row, "split") or SPLITS[0]
    if split not in SPLITS:
        raise _BadRowError("unknown split")
    label = _text(row, labels)
    example = Example(
        id=hashlib.sha256(normalised.encode()).hexdigest()[:16],
        prompt=prompt,
        category=label if label in ALL_LABELS else None,
        source=_text(row, "source") or default_source,
        split=split,
        draft=_draft(row.get("draft")),
        response=_text(row, "response"),
        confidence=None,
    )
    return example, label is not None and label not in ALL_LABELS


def _text(row: Mapping[str, Any], column: str) -> str | None:
    """Return a value as text without outer white space; None where it is absent or nothing is left."""
    value = row.get(column)
    return None if value is None else _decode(value, column).strip() or None


def _decode(value: Any, column: str) -> str:
    if not isinstance(value, (bytes, str)):
        raise _BadRowError(f"{column} is not text")
    try:
        # JSON can name half a surrogate pair, which no file can hold.
        return value.decode("utf-8") if isinstance(value, bytes) else value.encode("utf-8").decode("utf-8")
    except UnicodeError:
        raise _BadRowError("invalid UTF-8") from None


def _draft(value: Any) -> tuple[str, ...]:
    """Return the steps of a draft: the items of a list, or the lines of a text."""
    if value is None:
        return ()
    steps = value if isinstance(value, list) else _decode(value, "draft").splitlines()
    stripped = (_decode(step, "draft").strip() for step in steps)
    return tuple(step for step in stripped if step)


def _require_mostly_good(name: str, bad: Sequence[tuple[int, str]], rows: int, max_bad_rows: float) -> None:
    if bad and len(bad) / rows > max_bad_rows:
        number, reason = bad[0]
        raise DataError(
            f"source {name!r}: {len(bad)} of {rows} rows ({len(bad) / rows:.1%}) are unusable, the first of them row "
            f"{number}: {reason}; allowed is a share of {max_bad_rows:.1%}; mend the file or raise sources.max_bad_rows"
        )
