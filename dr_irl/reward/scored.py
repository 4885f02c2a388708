"""Scored rows on their way out: the rows as they came, with a reward each, as Parquet, JSONL or CSV."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from io import BufferedIOBase, TextIOWrapper
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from dr_irl.errors import DataError
from dr_irl.reward.rows import SCORES, Rows, Survey


def with_scores(rows: Rows, rewards: Sequence[float], cut: Sequence[bool]) -> Rows:
    """Add the columns of `SCORES`."""
    scores: dict[str, Sequence[Any]] = {"reward": rewards, "cut": cut}
    if isinstance(rows, list):
        return [row | {"reward": reward, "cut": each} for row, reward, each in zip(rows, rewards, cut, strict=True)]
    table: pa.Table = rows
    for name, kind in SCORES.items():
        table = table.append_column(name, pa.array(scores[name], kind))
    return table


def write_scored(batches: Iterable[Rows], target: BufferedIOBase, suffix: str, survey: Survey) -> None:
    """Write batches as they come, so that any number of rows fits in memory.

    Args:
        batches: each with the columns of `SCORES`.
        target: stays open.
        suffix: of `SUFFIXES`: the format.
        survey: of the rows before they were scored, with types where the format is Parquet.

    Raises:
        DataError: the format cannot hold what is in a column.
    """
    write = {".parquet": _write_parquet, ".jsonl": _write_json_lines, ".csv": _write_csv}[suffix]
    try:
        write(batches, target, survey)
    except (pa.ArrowException, UnicodeError, TypeError) as error:
        raise DataError(
            f"a column cannot be written as {suffix.removeprefix('.')}: {str(error).partition(chr(10))[0]}; "
            "drop it, or write to the format that the rows come in"
        ) from error


def _write_parquet(batches: Iterable[Rows], target: BufferedIOBase, survey: Survey) -> None:
    schema = survey.schema
    for name, kind in SCORES.items():
        schema = schema.append(pa.field(name, kind))
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for rows in batches:
            if isinstance(rows, list):
                rows = pa.table({name: [row.get(name) for row in rows] for name in schema.names}, schema=schema)
            writer.write_table(rows)


def _write_json_lines(batches: Iterable[Rows], target: BufferedIOBase, survey: Survey) -> None:
    del survey
    for rows in batches:
        for row in _as_dicts(rows):
            target.write(_json(row).encode() + b"\n")
        target.flush()


def _write_csv(batches: Iterable[Rows], target: BufferedIOBase, survey: Survey) -> None:
    names = [*survey.columns, *SCORES]
    text = TextIOWrapper(cast(Any, target), encoding="utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(names)
        for rows in batches:
            writer.writerows([_csv_value(row.get(name)) for name in names] for row in _as_dicts(rows))
    finally:
        text.detach()


def _as_dicts(rows: Rows) -> list[dict[str, Any]]:
    try:
        return rows if isinstance(rows, list) else rows.to_pylist()
    except ValueError as error:  # times in nanoseconds, which Python has not
        raise DataError(f"a column cannot be written as text: {error}; write --output with .parquet") from error


def _json(value: Any) -> str:
    """Write one line: ASCII, so that no control character reaches a terminal and half a surrogate pair is kept."""
    try:
        return json.dumps(value, default=_as_text, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(value), default=_as_text)


def _csv_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return json.dumps(value)
    return _json(value) if isinstance(value, (dict, list)) else str(_as_text(value))


def _as_text(value: Any) -> str:
    """Write what JSON has no word for: times and decimals."""
    if isinstance(value, bytes):
        raise TypeError("bytes are no text")
    return str(value)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity; null stands for them."""
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
