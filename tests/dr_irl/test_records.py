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
