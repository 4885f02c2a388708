"""Rows to be scored, a few hundred at a time, from Parquet, JSONL and CSV files, with whatever else is in them.

Texts may be harmful: errors name the row and the column, never what stands there.
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dr_irl.errors import DataError

SUFFIXES = (".parquet", ".jsonl", ".csv")
SCORES = {"reward": pa.float64(), "cut": pa.bool_()}
"""The columns that scoring adds."""

Rows = list[dict[str, Any]] | pa.Table
"""Some rows with all their columns; Parquet stays a table, so that its types come out as they went in."""

_ROWS_AT_ONCE = 512
_KINDS = {type(None): "null", bool: "true or false", int: "a number", float: "a number", list: "a list"}
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a file, in its order."""

    source: "RowSource"
    numbers: Sequence[int]
    """Of the rows, from 1; in JSONL, of the lines."""
    categories: list[str]
    prompts: list[str]
    responses: list[str]
    rows: Rows

    def place(self, index: int) -> str:
        """Say where in the file a row is."""
        return self.source.place(self.numbers[index])


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is in a file, seen before the first row is scored."""

    rows: int
    columns: tuple[str, ...]
    """In the order in which they first occur."""
    categories: Mapping[str, int]
    """Category -> number of its first row."""
    schema: pa.Schema
    """Of all columns as a table; of the texts that JSONL and CSV hold, a guess that fits all rows."""


@dataclass(frozen=True, slots=True)
class RowSource:
    """A file of prompts and answers. Columns `prompt`, `response` and `category` are read, others are kept."""

    path: Path
    suffix: str
    """Of `SUFFIXES`: the format."""
    name: str
    """What errors call it."""
    category: str | None = None
    """Of every row; a column `category` is then one of the others."""

    def batches(self) -> Iterator[Batch]:
        """Read the rows, some at a time.

        Raises:
            DataError: the file cannot be read, a column is missing, repeated or has a name that scoring adds, or a
                value is no text.
        """
        read = {".parquet": _parquet_rows, ".jsonl": _json_rows, ".csv": _csv_rows}[self.suffix]
        needed = ("prompt", "response") if self.category is not None else ("prompt", "response", "category")
        try:
            for numbers, rows in read(self):
                texts = {column: _texts(self, numbers, rows, column) for column in needed}
                categories = texts.get("category") or [self.category or ""] * len(numbers)
                yield Batch(self, numbers, categories, texts["prompt"], texts["response"], rows)
        except (pa.ArrowException, OSError, csv.Error, UnicodeError) as error:
            kind = self.suffix.removeprefix(".")
            raise DataError(
                f"{self.name} cannot be read as {kind}: {str(error).partition(chr(10))[0]}; allowed is a whole {kind} "
                "file with UTF-8 text; write it again or give it the suffix of its format"
            ) from error

    def place(self, number: int) -> str:
        """Say where in the file a row is."""
        return f"{'line' if self.suffix == '.jsonl' else 'row'} {number} of {self.name}"


def survey_rows(source: RowSource, *, typed: bool) -> Survey:
    """Read a file once, so that what is wrong with it is known before anything is scored.

    Args:
        source: the file.
        typed: find a type for every column, which a table needs; without it the schema is empty.

    Raises:
        DataError: as `RowSource.batches`, or there are no rows, or a column has no one type.
    """
    rows, columns, categories = 0, dict[str, None](), dict[str, int]()
    schema = pa.schema([])
    for batch in source.batches():
        rows += len(batch.numbers)
        for category, number in zip(batch.categories, batch.numbers, strict=True):
            categories.setdefault(category, number)
        names = (k for row in batch.rows for k in row) if isinstance(batch.rows, list) else batch.rows.column_names
        columns |= dict.fromkeys(names)
        if typed:
            schema = _with_types_of(schema, batch)
    if not rows:
        raise DataError(f"{source.name} has no rows; at least one is needed")
    return Survey(rows, tuple(columns), categories, schema)


def check_categories(source: RowSource, survey: Survey, allowed: Sequence[str]) -> None:
    """See that every row has a category of those allowed.

    Raises:
        DataError: one has not.
    """
    unknown = [name for name in survey.categories if name not in allowed]
    if unknown:
        others = f" (and {len(unknown) - 1} other unknown ones)" if len(unknown) > 1 else ""
        where = "" if source.category is not None else f"{source.place(survey.categories[unknown[0]])}: "
        raise DataError(
            f"{where}there is no reward model for the category {_shown(unknown[0])}{others}; allowed are "
            f"{', '.join(allowed)}"
        )


def _parquet_rows(source: RowSource) -> Iterator[tuple[Sequence[int], Rows]]:
    with pq.ParquetFile(source.path) as file:
        _check_columns(source, file.schema_arrow.names)
        first = 1
        for batch in file.iter_batches(_ROWS_AT_ONCE):
            yield range(first, first + len(batch)), pa.Table.from_batches([batch])
            first += len(batch)


def _json_rows(source: RowSource) -> Iterator[tuple[Sequence[int], Rows]]:
    with source.path.open("rb") as file:
        lines = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line for number, line in enumerate(file, 1))
        numbered = ((number, _json_row(source, number, line)) for number, line in enumerate(lines, 1) if line.strip())
        yield from _in_batches(numbered)


def _json_row(source: RowSource, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{source.place(number)} is not valid UTF-8; write the file again as UTF-8") from None
    except (ValueError, RecursionError):
        raise DataError(f"{source.place(number)} is no JSON; allowed is one JSON object per line") from None
    if not isinstance(row, dict):
        raise DataError(f"{source.place(number)} is {_kind(row)}; allowed is one JSON object per line")
    _check_columns(source, list(row), number)
    return row


def _csv_rows(source: RowSource) -> Iterator[tuple[Sequence[int], Rows]]:
    csv.field_size_limit(sys.maxsize)  # an answer may be longer than the 128 kB that the module allows
    # Bytes that are not UTF-8 become surrogates, so that the row can be named that has them.
    with source.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        _check_columns(source, header)
        numbered = enumerate((fields for fields in reader if fields), 1)
        yield from _in_batches((number, _csv_row(source, number, header, fields)) for number, fields in numbered)


def _csv_row(source: RowSource, number: int, header: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
    if len(fields) != len(header):
        raise DataError(f"{source.place(number)} has {len(fields)} fields; the header has {len(header)}; mend the row")
    return {column: _text(source, number, column, value) for column, value in zip(header, fields, strict=True)}


def _in_batches(numbered: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[tuple[Sequence[int], Rows]]:
    remaining = iter(numbered)
    while batch := list(islice(remaining, _ROWS_AT_ONCE)):
        yield [number for number, _ in batch], [row for _, row in batch]


def _check_columns(source: RowSource, columns: Sequence[str], number: int | None = None) -> None:
    """See that the columns of a file, or of one row, are those needed and none that scoring adds."""
    where = source.name if number is None else source.place(number)
    if twice := [column for column in columns if columns.count(column) > 1]:
        raise DataError(f"{where}: column {_shown(twice[0])} occurs more than once; allowed is once; rename the rest")
    if taken := [column for column in SCORES if column in columns]:
        raise DataError(f"{where} has a column {taken[0]!r} already, which scoring adds; rename or drop it")
    needed = ["prompt", "response", *(["category"] if source.category is None else [])]
    if missing := [column for column in needed if column not in columns]:
        seen = ", ".join(map(_shown, columns[:12])) or "none"
        raise DataError(
            f"{where} has no column {missing[0]!r}; its columns are {seen}; needed are {', '.join(needed)}"
            + ("; add it, or name one category for all rows with --category" if missing == ["category"] else "")
        )


def _texts(source: RowSource, numbers: Sequence[int], rows: Rows, column: str) -> list[str]:
    values = [row[column] for row in rows] if isinstance(rows, list) else _column(source, numbers, rows, column)
    return [_text(source, number, column, value) for number, value in zip(numbers, values, strict=True)]


def _column(source: RowSource, numbers: Sequence[int], table: pa.Table, column: str) -> list[Any]:
    """Return a column of text as bytes, which Arrow hands out undecoded."""
    values = table.column(column)
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    tests = ("is_string", "is_large_string", "is_string_view", "is_binary", "is_large_binary", "is_null")
    if not any(getattr(pa.types, test)(kind) for test in tests):
        raise _no_text(source, numbers[0], column, str(kind))
    return values.cast(kind).cast(pa.large_binary()).to_pylist()


def _text(source: RowSource, number: int, column: str, value: Any) -> str:
    if not isinstance(value, (str, bytes)):
        raise _no_text(source, number, column, _kind(value))
    with suppress(UnicodeError):
        # JSON can name half a surrogate pair, which no tokenizer takes.
        return (value if isinstance(value, bytes) else value.encode("utf-8")).decode("utf-8")
    raise DataError(
        f"{source.place(number)}: column {_shown(column)} is not valid UTF-8; write the file again as UTF-8"
    )


def _no_text(source: RowSource, number: int, column: str, kind: str) -> DataError:
    also = ", which may be empty" if column == "response" else ""
    return DataError(f"{source.place(number)}: column {column!r} is {kind}; allowed is text{also}; mend the row")


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "an object" if isinstance(value, dict) else "a text")


def _shown(name: str) -> str:
    """Quote a name for an error: its beginning, for it may be a text in the wrong place."""
    return repr(name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}...")


def _with_types_of(schema: pa.Schema, batch: Batch) -> pa.Schema:
    """Widen a schema so that a batch fits it."""
    if not isinstance(batch.rows, list):
        return batch.rows.schema
    for column in dict.fromkeys(name for row in batch.rows for name in row):
        try:
            found = pa.schema([(column, pa.array([row.get(column) for row in batch.rows]).type)])
            schema = pa.unify_schemas([schema, found], promote_options="permissive")
        except (pa.ArrowException, OverflowError, UnicodeError) as error:
            raise DataError(
                f"{batch.source.name}: column {_shown(column)} has no one type that a Parquet table could give it; "
                "write --output with the suffix .jsonl"
            ) from error
    return schema
