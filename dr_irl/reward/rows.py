"""Rows to be scored, a few hundred at a time, from Parquet, JSONL and CSV files, with whatever else is in them.

Texts may be harmful: errors name the row and the column, never what stands there.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from dr_irl.errors import DataError
from dr_irl.tables.reading import Row, TableFile, Unreadable, decode

SCORES = {"reward": pa.float64(), "cut": pa.bool_()}
"""The columns that scoring adds."""

Rows = list[dict[str, Any]] | pa.Table
"""Some rows with all their columns; Parquet stays a table, so that its types come out as they went in."""

_ADVICE = {
    ".jsonl": "allowed is one JSON object per line, in UTF-8",
    ".csv": "allowed are as many fields as the header has, and two quotes for one inside a field",
}
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
            DataError: the file or a row cannot be read, a column is missing, repeated or has a name that scoring adds,
                or a value is no text.
        """
        needed = ("prompt", "response") if self.category is not None else ("prompt", "response", "category")
        table = TableFile(self.path, self.suffix, self.name)
        header = table.header()
        if header is not None:
            _check_columns(self, header)
        for read in table.batches():
            if isinstance(read.rows, list):
                for number, row in zip(read.numbers, read.rows, strict=True):
                    _check_row(self, number, row, whole=header is None)
            texts = {
                column: [
                    _text(self, number, column, value)
                    for number, value in zip(read.numbers, read.values(column), strict=True)
                ]
                for column in needed
            }
            categories = texts.get("category") or [self.category or ""] * len(read.numbers)
            yield Batch(self, read.numbers, categories, texts["prompt"], texts["response"], cast(Rows, read.rows))

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


def _check_row(source: RowSource, number: int, row: Row, *, whole: bool) -> None:
    """See that a row can be read and, where each names its own columns, that they are those needed."""
    if isinstance(row, Unreadable):
        raise DataError(f"{source.place(number)} cannot be scored: {row.reason}; {_ADVICE[source.suffix]}")
    if whole:
        _check_columns(source, list(row), number)


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


def _text(source: RowSource, number: int, column: str, value: Any) -> str:
    if not isinstance(value, (str, bytes)):
        raise _no_text(source, number, column, _kind(value))
    with suppress(UnicodeError):
        return decode(value)
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
