"""Rows with their scores, written in every format."""

import json
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dr_irl.errors import DataError
from dr_irl.reward.rows import RowSource, survey_rows
from dr_irl.reward.scored import with_scores, write_scored

ROW = {"prompt": "p", "response": "r", "category": "insult"}


def written(rows: list[dict[str, Any]] | pa.Table, suffix: str, folder: Path) -> bytes:
    """Read the rows from a file, give each the reward 0.5, and write them."""
    if isinstance(rows, list):
        path = folder / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path = folder / "rows.parquet"
        pq.write_table(rows, path)
    source, target = RowSource(path, path.suffix, path.name), BytesIO()
    batches = (with_scores(b.rows, [0.5] * len(b.numbers), [True] * len(b.numbers)) for b in source.batches())
    write_scored(batches, target, suffix, survey_rows(source, typed=suffix == ".parquet"))
    return target.getvalue()


def test_json_lines_keep_all_else_and_add_the_scores(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [ROW | {"tags": ["a", {"b": None}]}, ROW | {"id": 2**70}]
    found = [json.loads(line) for line in written(rows, ".jsonl", tmp_path).splitlines()]
    assert found == [row | {"reward": 0.5, "cut": True} for row in rows]


def test_json_lines_are_printable_ascii(tmp_path: Path) -> None:
    text = written([ROW | {"response": "\x1b[2J \x9b5n \x7f \u202e"}], ".jsonl", tmp_path).decode("ascii")
    assert text.rstrip("\n").isprintable()


def test_json_has_null_where_a_number_is_none(tmp_path: Path) -> None:
    line = written([ROW | {"x": [float("nan"), 1.5]}], ".jsonl", tmp_path)
    assert json.loads(line)["x"] == [None, 1.5]
    assert b"NaN" not in line


def test_parquet_to_parquet_keeps_every_type(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([ROW])
    table = table.append_column("when", pa.array([123456789], pa.timestamp("ns", "UTC")))
    table = table.append_column("kind", pa.array(["x"]).dictionary_encode())
    table = table.append_column("bytes", pa.array([b"\xff"]))
    found = pq.read_table(BytesIO(written(table, ".parquet", tmp_path)))
    assert found.drop_columns(["reward", "cut"]).equals(table)
    assert found.select(["reward", "cut"]).to_pylist() == [{"reward": 0.5, "cut": True}]


def test_json_lines_become_parquet_with_nulls_where_a_row_lacks_a_column(tmp_path: Path) -> None:
    found = pq.read_table(BytesIO(written([ROW | {"x": 1}, ROW | {"y": "z"}], ".parquet", tmp_path)))
    assert found.to_pylist() == [
        ROW | {"x": 1, "y": None, "reward": 0.5, "cut": True},
        ROW | {"x": None, "y": "z", "reward": 0.5, "cut": True},
    ]


def test_csv_quotes_what_needs_it(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [ROW | {"response": 'a,"b"\nc', "x": [1]}, ROW | {"x": None}]
    assert written(rows, ".csv", tmp_path).decode() == (
        'prompt,response,category,x,reward,cut\np,"a,""b""\nc",insult,[1],0.5,true\np,r,insult,,0.5,true\n'
    )


def test_times_of_parquet_are_written_as_text(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([ROW | {"when": datetime(2026, 1, 2, 3, 4)}])
    assert json.loads(written(table, ".jsonl", tmp_path))["when"] == "2026-01-02 03:04:00"


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_bytes_that_no_text_can_hold_are_told(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match=f"cannot be written as {suffix[1:]}: bytes are no text; drop it"):
        written(pa.Table.from_pylist([ROW | {"x": b"\xff"}]), suffix, tmp_path)
