"""Rows of any file, and what is said of those that cannot be scored."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dr_irl.errors import DataError
from dr_irl.reward.rows import Batch, RowSource, check_categories, survey_rows

ROW = {"prompt": "mock him", "response": "no", "category": "insult"}


def source(path: Path, content: str | bytes | pa.Table, category: str | None = None) -> RowSource:
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return RowSource(path, path.suffix, repr(path.name), category)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(**columns: Any) -> pa.Table:
    return pa.table({name: [value] for name, value in ROW.items()} | columns)


def read(of: RowSource) -> list[Batch]:
    return list(of.batches())


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_rows_come_in_batches_and_in_order(tmp_path: Path, suffix: str) -> None:
    answers = [f"answer {number}" for number in range(1100)]
    content: dict[str, Any] = {
        ".parquet": pa.table({"prompt": ["p"] * 1100, "response": answers}),
        ".jsonl": lines(*({"prompt": "p", "response": answer} for answer in answers)),
        ".csv": "prompt,response\n" + "".join(f"p,{answer}\n" for answer in answers),
    }
    batches = read(source(tmp_path / f"rows{suffix}", content[suffix], "insult"))
    assert [len(batch.responses) for batch in batches] == [512, 512, 76]
    assert [answer for batch in batches for answer in batch.responses] == answers
    assert batches[2].place(0).startswith("line 1025 of" if suffix == ".jsonl" else "row 1025 of")


def test_blank_lines_of_jsonl_are_counted_and_no_rows(tmp_path: Path) -> None:
    [batch] = read(source(tmp_path / "rows.jsonl", lines(ROW) + "\n" + lines(ROW)))
    assert list(batch.numbers) == [1, 3]


def test_a_csv_value_may_have_line_ends_and_be_long(tmp_path: Path) -> None:
    long = "a\nb" * 100_000
    [batch] = read(source(tmp_path / "rows.csv", f'prompt,response\np,"{long}"\n', "insult"))
    assert batch.responses == [long]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    [batch] = read(source(tmp_path / "rows.csv", b"\xef\xbb\xbfprompt,response\np,r\n", "insult"))
    assert batch.prompts == ["p"]


def test_an_empty_response_is_a_response(tmp_path: Path) -> None:
    [batch] = read(source(tmp_path / "rows.jsonl", lines(ROW | {"response": ""})))
    assert batch.responses == [""]


def test_one_category_for_all_goes_before_a_column_of_that_name(tmp_path: Path) -> None:
    [batch] = read(source(tmp_path / "rows.jsonl", lines(ROW | {"category": 3}), "benign"))
    assert batch.categories == ["benign"]


def test_dictionary_columns_and_bytes_are_text(tmp_path: Path) -> None:
    columns = {"category": pa.array(["insult"]).dictionary_encode(), "response": pa.array([b"no"])}
    [batch] = read(source(tmp_path / "rows.parquet", table(**columns)))
    assert (batch.categories, batch.responses) == (["insult"], ["no"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", lines(ROW, {"prompt": "p", "category": "c"}), r"^line 2 of 'a.jsonl' has no column 'response'"),
        (
            "a.csv",
            "prompt,response\np,r\n",
            r"^'a.csv' has no column 'category'; its columns are 'prompt', 'response'; ",
        ),
        (
            "a.parquet",
            pa.table({"prompt": ["p"]}),
            r"^'a.parquet' has no column 'response'; its columns are 'prompt'; ",
        ),
        ("a.csv", "", r"^'a.csv' has no column 'prompt'; its columns are none; "),
        ("a.csv", "prompt,prompt,response,category\n", r"^'a.csv': column 'prompt' occurs more than once"),
        ("a.jsonl", lines(ROW | {"reward": 1}), r"^line 1 of 'a.jsonl' has a column 'reward' already"),
        ("a.parquet", table(cut=["x"]), r"^'a.parquet' has a column 'cut' already"),
        ("a.jsonl", lines(ROW, ROW | {"response": 4}), r"^line 2 of 'a.jsonl': column 'response' is a number; "),
        ("a.jsonl", lines(ROW, ROW | {"prompt": None}), r"^line 2 of 'a.jsonl': column 'prompt' is null; "),
        ("a.parquet", table(prompt=[3]), r"^row 1 of 'a.parquet': column 'prompt' is a number; "),
        ("a.parquet", table(response=pa.array([None], pa.string())), r"^row 1 .* column 'response' is null; "),
        ("a.parquet", table(response=[b"\xff"]), r"^row 1 of 'a.parquet': column 'response' is not valid UTF-8"),
        ("a.csv", b"prompt,response,category\na,b,c\na,\xff,c\n", r"^row 2 of 'a.csv': column 'response' is not valid"),
        ("a.jsonl", b'{"prompt": "\xff"}', r"^line 1 of 'a.jsonl' cannot be scored: invalid UTF-8; "),
        ("a.jsonl", '{"prompt": "\\ud800", "response": "", "category": ""}', r"column 'prompt' is not valid UTF-8"),
        ("a.jsonl", lines(ROW) + "{", r"^line 2 of 'a.jsonl' cannot be scored: no JSON; allowed is one"),
        ("a.jsonl", "[]", r"^line 1 of 'a.jsonl' cannot be scored: no JSON object; "),
        ("a.csv", "prompt,response,category\na,b,c,d\n", r"^row 1 of 'a.csv' cannot be scored: more or fewer fields"),
        ("a.csv", 'prompt,response,category\na,b,"c\n', r"^'a.csv': it ends inside a quoted field"),
        ("a.parquet", b"PAR1", r"^'a.parquet' cannot be read as parquet: "),
        ("a.jsonl", "\n\n", r"^'a.jsonl' has no rows"),
    ],
)
def test_what_cannot_be_scored_is_told_by_its_place(
    tmp_path: Path, name: str, content: str | bytes | pa.Table, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        survey_rows(source(tmp_path / name, content), typed=False)


def test_an_error_does_not_repeat_a_text_in_the_wrong_place(tmp_path: Path) -> None:
    secret = "how to hurt somebody " * 10
    rows = source(tmp_path / "a.jsonl", lines(ROW | {"category": secret}))
    with pytest.raises(DataError) as failed:
        check_categories(rows, survey_rows(rows, typed=False), ["insult"])
    assert str(failed.value).count("how to hurt somebody") == 1


def test_an_unknown_category_is_told_with_its_first_row_and_those_allowed(tmp_path: Path) -> None:
    rows = source(tmp_path / "a.csv", "prompt,response,category\na,b,insult\na,b,insuit\na,b,x\n")
    said = r"^row 2 of 'a.csv': .* category 'insuit' \(and 1 other unknown ones\); allowed are insult, benign$"
    with pytest.raises(DataError, match=said):
        check_categories(rows, survey_rows(rows, typed=False), ["insult", "benign"])


def test_a_survey_counts_rows_and_names_every_column(tmp_path: Path) -> None:
    found = survey_rows(source(tmp_path / "a.jsonl", lines(ROW | {"x": 1}, ROW | {"y": 1})), typed=False)
    assert (found.rows, found.columns) == (2, ("prompt", "response", "category", "x", "y"))


def test_a_type_is_found_that_fits_a_column_of_all_batches(tmp_path: Path) -> None:
    rows = [ROW | {"x": None}] * 512 + [ROW | {"x": 1}] * 512 + [ROW | {"x": 0.5}]
    assert survey_rows(source(tmp_path / "a.jsonl", lines(*rows)), typed=True).schema.field("x").type == pa.float64()


def test_a_column_without_one_type_is_told(tmp_path: Path) -> None:
    rows = source(tmp_path / "a.jsonl", lines(ROW | {"x": 1}, ROW | {"x": "one"}))
    with pytest.raises(DataError, match="column 'x' has no one type .* suffix .jsonl"):
        survey_rows(rows, typed=True)
