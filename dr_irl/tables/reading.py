"""Reads the rows of a file, a few hundred at a time; what is wrong with one row spoils no other.

Names of columns lose the white space around them. A CSV may be separated by commas, semicolons, tabs or bars. What an
error says of a file holds nothing that stands in its rows: it may be harmful, and errors are shown.
"""

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dr_irl.errors import DataError

CUT_OFF = "it ends inside a quoted field: it was cut off, or a quote is missing"
MOST_BYTES = 1 << 30
"""Of text that a packed file may hold: a few kilobytes of Parquet can say one text a million times."""

_ROWS_AT_ONCE = 512
_SEPARATORS = ",;\t|"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ROW_OF_ARROW = re.compile(r"\n.*", flags=re.DOTALL)
_TEXT_TYPES = ("is_string", "is_large_string", "is_string_view", "is_binary", "is_large_binary")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands for a row that cannot be read."""

    reason: str
    """In the same few words for every such row, so that they can be counted."""


Row = dict[str, Any] | Unreadable
Rows = list[Row] | pa.Table
"""Some rows with all their columns; Parquet stays a table, so that its types come out as they went in."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a file, in its order."""

    numbers: Sequence[int]
    """Of the rows, from 1; in JSONL, of the lines."""
    rows: Rows

    def values(self, column: str) -> list[Any]:
        """Return what the rows have in a column: text as str or as bytes nobody decoded yet, None where there is none.

        The value of a row that is unreadable is its `Unreadable`.
        """
        if isinstance(self.rows, list):
            return [row if isinstance(row, Unreadable) else row.get(column) for row in self.rows]
        if column not in self.rows.column_names:
            return [None] * self.rows.num_rows
        return _undecoded(self.rows.column(column)).to_pylist()


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file: its contents, or where they are."""

    content: Path | bytes
    suffix: str
    """Of `SUFFIXES`: the format."""
    name: str
    """What errors call it."""
    bounded: bool = False
    """Whether a Parquet file may not unpack to more than `MOST_BYTES`."""

    def header(self) -> list[str] | None:
        """Return the names of the columns; None for JSONL, whose lines name their own.

        Raises:
            DataError: the file cannot be read.
        """
        with self._explained():
            if self.suffix == ".parquet":
                with self._open() as stream, pq.ParquetFile(stream) as file:
                    return _trimmed(file.schema_arrow.names)
            if self.suffix == ".csv":
                with self._open() as stream:
                    return _csv_header(stream)[0]
        return None

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Batch]:
        """Read the rows, some at a time.

        Args:
            columns: of Parquet, the ones to read where there are more; all by default.

        Raises:
            DataError: the file cannot be read, ends inside a field, or unpacks to more than is allowed.
        """
        with self._explained(), self._open() as stream:
            if self.suffix == ".parquet":
                yield from self._parquet(stream, columns)
            else:
                yield from _in_batches(_json_rows(stream) if self.suffix == ".jsonl" else self._csv_rows(stream))

    def _parquet(self, stream: BufferedIOBase, columns: Sequence[str] | None) -> Iterator[Batch]:
        with pq.ParquetFile(stream) as file:
            names = file.schema_arrow.names
            read = names if columns is None else [name for name in names if name.strip() in columns]
            # As a dictionary a text that comes up a million times is there once, until it was seen how long it is.
            texts = [name for name in read if _is_text(file.schema_arrow.field(names.index(name)).type)]
            file = pq.ParquetFile(stream, read_dictionary=texts) if self.bounded else file
            groups = map(file.metadata.row_group, range(file.num_row_groups))
            if self.bounded and sum(group.total_byte_size for group in groups) > MOST_BYTES:
                raise self._too_large()
            first, seen = 1, 0
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=read):
                table = pa.Table.from_batches([batch]).rename_columns(_trimmed(batch.schema.names))
                if self.bounded and (seen := seen + sum(map(_text_bytes, table.columns))) > MOST_BYTES:
                    raise self._too_large()
                yield Batch(range(first, first + len(batch)), table)
                first += len(batch)

    def _csv_rows(self, stream: BufferedIOBase) -> Iterator[tuple[int, Row]]:
        csv.field_size_limit(sys.maxsize)  # an answer may be longer than the 128 kB that the module allows
        header, reader = _csv_header(stream)
        number = 0
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "end of data" in str(error):
                    raise DataError(f"{self.name}: {CUT_OFF}; write it again, whole") from None
                number += 1
                yield number, Unreadable("quotes that do not match")
                continue
            if fields:  # a blank line is no row
                number += 1
                yield number, _csv_row(header, fields)

    @contextmanager
    def _open(self) -> Iterator[BufferedIOBase]:
        with self.content.open("rb") if isinstance(self.content, Path) else BytesIO(self.content) as stream:
            yield stream

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, csv.Error, UnicodeError) as error:
            kind = self.suffix.removeprefix(".")
            raise DataError(
                f"{self.name} cannot be read as {kind}: {_ROW_OF_ARROW.sub('', str(error))}; allowed is a whole {kind} "
                "file with UTF-8 text; write it again or give it the suffix of its format"
            ) from error

    def _too_large(self) -> DataError:
        return DataError(f"{self.name} unpacks to more than {MOST_BYTES >> 30} GiB of text; allowed is less; split it")


def decode(value: bytes | str) -> str:
    """Return a value as text that any file can hold.

    Raises:
        UnicodeError: it is none: other bytes than UTF-8, or half a surrogate pair, which JSON can name.
    """
    return (value if isinstance(value, bytes) else value.encode("utf-8")).decode("utf-8")


def _trimmed(names: Iterable[str]) -> list[str]:
    return [name.strip() for name in names]


def _csv_header(stream: BufferedIOBase) -> tuple[list[str], Any]:
    """Return the names of the columns, and the reader of what comes after them."""
    if stream.read(3) != _BYTE_ORDER_MARK:
        stream.seek(0)
    start = stream.tell()
    line = stream.readline().decode("utf-8", "replace")
    stream.seek(start)
    fields = {mark: _trimmed(next(csv.reader([line], delimiter=mark), [])) for mark in _SEPARATORS}
    separator = next((mark for mark in _SEPARATORS if "prompt" in fields[mark]), _SEPARATORS[0])
    # Bytes that are not UTF-8 become surrogates, so that they spoil their row, not the file.
    text = TextIOWrapper(cast(Any, stream), encoding="utf-8", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=separator, strict=True)
    return _trimmed(next(reader, [])), reader


def _csv_row(header: Sequence[str], fields: Sequence[str]) -> Row:
    if len(fields) != len(header):
        return Unreadable("more or fewer fields than the header")
    return dict(zip(header, fields, strict=True))


def _json_rows(stream: BufferedIOBase) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(stream, 1):
        content = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if content.strip():
            yield number, _json_row(content)


def _json_row(line: bytes) -> Row:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return Unreadable("invalid UTF-8")
    except (ValueError, RecursionError):
        return Unreadable("no JSON")
    if not isinstance(row, dict):
        return Unreadable("no JSON object")
    return {name.strip(): value for name, value in row.items()}


def _in_batches(numbered: Iterable[tuple[int, Row]]) -> Iterator[Batch]:
    remaining = iter(numbered)
    while batch := list(islice(remaining, _ROWS_AT_ONCE)):
        yield Batch([number for number, _ in batch], [row for _, row in batch])


def _undecoded(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Turn text, and lists of text, into bytes, which Arrow hands out as they are; other values stay."""
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if _is_text(kind):
        return values.cast(kind).cast(pa.large_binary())
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(kind.value_type):
        return values.cast(pa.large_list(pa.large_binary()))
    return values.cast(kind)


def _is_text(kind: pa.DataType) -> bool:
    return any(getattr(pa.types, test)(kind) for test in _TEXT_TYPES)


def _text_bytes(values: pa.ChunkedArray) -> int:
    """Count the bytes that a column of text would take as one text for each row."""
    total = 0
    for chunk in values.chunks:
        if pa.types.is_dictionary(chunk.type) and _is_text(chunk.type.value_type):
            lengths = pc.call_function("binary_length", [chunk.dictionary.cast(pa.large_binary())])
            total += pc.call_function("sum", [lengths.take(chunk.indices)]).as_py() or 0
        else:
            total += chunk.nbytes
    return total
