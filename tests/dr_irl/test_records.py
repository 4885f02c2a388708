"""Tables: what is written is read, and a column is what its field says."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.records import Answer, Completion, Example, Hardness, ScalingRecord, StepRecord, TableRow

TEXT = st.text(st.characters(exclude_categories=["Cs"]))  # no lone surrogates: they are no text in UTF-8
FIELDS = st.fixed_dictionaries(
    {
        "id": TEXT,
        "prompt": TEXT,
        "category": TEXT | st.none(),
        "source": TEXT,
        "split": TEXT,
        "draft": st.lists(TEXT, max_size=3).map(tuple),
        "response": TEXT | st.none(),
        "confidence": st.floats(allow_nan=False) | st.none(),
    }
)


@given(st.lists(FIELDS, max_size=4))
def test_examples_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, fields: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.parquet"
    rows = [Example(**values) for values in fields]
    Example.write(rows, path)
    assert Example.read(path) == rows


@pytest.mark.parametrize("kind", [Example, Completion, Hardness, StepRecord, ScalingRecord, Answer])
def test_a_table_without_rows_keeps_its_columns(kind: type[TableRow], tmp_path: Path) -> None:
    kind.write([], tmp_path / "rows.parquet")
    assert pq.read_schema(tmp_path / "rows.parquet").equals(kind.schema())


def test_only_a_field_that_may_be_none_is_nullable() -> None:
    assert [f.name for f in Example.schema() if f.nullable] == ["category", "response", "confidence"]


def test_the_columns_of_an_example_have_the_types_of_its_fields() -> None:
    types = dict(zip(Example.schema().names, Example.schema().types, strict=True))
    assert (types["id"], types["draft"], types["confidence"]) == (pa.string(), pa.list_(pa.string()), pa.float64())


def test_an_unscored_answer_stays_unscored(tmp_path: Path) -> None:
    row = Answer("harmful", "p", "a prompt", "insult", "text", refused=None, truncated=False)
    Answer.write([row], tmp_path / "rows.parquet")
    assert Answer.read(tmp_path / "rows.parquet")[0].refused is None


def test_a_table_of_many_row_groups_keeps_the_order_of_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dr_irl.records._ROWS_AT_ONCE", 3)
    rows = [Hardness(str(place), "insult", 0, 0.5) for place in range(10)]
    Hardness.write(iter(rows), tmp_path / "rows.parquet")
    assert pq.ParquetFile(tmp_path / "rows.parquet").num_row_groups == 4
    assert Hardness.read(tmp_path / "rows.parquet") == rows


def test_a_table_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt_id": ["p"]}), tmp_path / "rows.parquet")
    with pytest.raises((TypeError, KeyError, ValueError), match="category"):
        Hardness.read(tmp_path / "rows.parquet")
