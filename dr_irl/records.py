"""The frozen records handed between stages, and the Arrow schema of every table."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

Row = TypeVar("Row", bound="TableRow")

_ROWS_AT_ONCE = 10_000
_STRINGS = pa.list_(pa.string())
_ARROW_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    str | None: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    float | None: pa.float64(),
    bool: pa.bool_(),
    bool | None: pa.bool_(),
    tuple[str, ...]: _STRINGS,
}


class TableRow:
    """A frozen dataclass that is one row of a Parquet table; its fields are the table's schema."""

    @classmethod
    def schema(cls) -> pa.Schema:
        """Return the Arrow schema: one column per field, nullable where the field may be None."""
        columns = fields(cls)  # pyright: ignore[reportArgumentType]
        return pa.schema([pa.field(f.name, _ARROW_TYPES[f.type], nullable="None" in str(f.type)) for f in columns])

    @classmethod
    def write(cls: type[Row], rows: Iterable[Row], path: Path) -> None:
        """Write rows to one zstd Parquet file; they are taken one by one, so that any number fits in memory."""
        remaining = iter(rows)
        with pq.ParquetWriter(path, cls.schema(), compression="zstd") as writer:
            while batch := list(islice(remaining, _ROWS_AT_ONCE)):
                records = [asdict(row) for row in batch]  # pyright: ignore[reportArgumentType]
                writer.write_batch(pa.RecordBatch.from_pylist(records, schema=cls.schema()))

    @classmethod
    def read(cls: type[Row], path: Path) -> list[Row]:
        """Read the rows that `write` wrote."""
        return list(cls.scan(path))

    @classmethod
    def scan(cls: type[Row], path: Path) -> Iterator[Row]:
        """Read the rows that `write` wrote, one by one: any number fits in memory."""
        lists = [f.name for f in cls.schema() if pa.types.is_list(f.type)]
        with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as table:
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=cls.schema().names):
                for row in batch.to_pylist():
                    yield cls(**(row | {name: tuple(row[name]) for name in lists}))


@dataclass(frozen=True, slots=True)
class Example(TableRow):
    """A prompt, with its demonstration where it has one."""

    id: str
    prompt: str
    category: str | None
    """A harm category, `benign`, or None until the router has seen it."""
    source: str
    """The data set or framing the prompt comes from."""
    split: str
    """`train` or `heldout`."""
    draft: tuple[str, ...]
    """Chain-of-Draft steps; empty where there is no demonstration or none was drafted."""
    response: str | None
    """The demonstration: the answer given to the user."""
    confidence: float | None
    """The router's probability of `category`; None where the source named the category."""
    file: str = field(default="", compare=False)
    """The location it was read from; empty where no file has it."""
    row: int = field(default=0, compare=False)
    """Its number there, from 1; in JSONL, of the line."""


@dataclass(frozen=True, slots=True)
class Quarantined(TableRow):
    """A row that came in and is not among the examples."""

    file: str
    row: int
    """Its number in the file, from 1; in JSONL, of the line."""
    stage: str
    """That left it out."""
    reason: str


@dataclass(frozen=True, slots=True)
class Completion(TableRow):
    """One completion sampled from a policy."""

    prompt_id: str
    index: int
    """k in 1..G, counted from 0."""
    text: str
    length_tokens: int
    truncated: bool
    """True where the length limit ended it, not the end token."""


@dataclass(frozen=True, slots=True)
class RewardReading(TableRow):
    """What one reward model makes of a demonstration and of an answer that should lose to it."""

    model: str
    """Its category, or `single` for the one model trained on all."""
    category: str
    """Of the prompt."""
    kind: str
    """What the other answer is: `completion`, or a kind of hard negative."""
    prompt_id: str
    demonstration_reward: float
    """Calibrated, like the other."""
    other_reward: float
    demonstration_tokens: int
    """As many as were scored."""
    other_tokens: int
    demonstration_refuses: bool | None
    """As the judge says; None where it cannot tell."""
    other_refuses: bool | None


@dataclass(frozen=True, slots=True)
class Hardness(TableRow):
    """How far one reference completion is from the demonstration."""

    prompt_id: str
    category: str
    index: int
    distance: float
    """d = 1 - W, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class StepRecord(TableRow):
    """One logged number of one training step."""

    step: int
    name: str
    category: str
    """The harm category, `benign`, or `all`."""
    value: float


@dataclass(frozen=True, slots=True)
class ScalingRecord(TableRow):
    """The factors that scaled one prompt's advantages at one step."""

    step: int
    prompt_id: str
    category: str
    data: float
    """aD."""
    model: float
    """aM."""
    alpha: float
    gap: float
    kept: float
    """Share of the prompt's completions kept by the gap filter."""
    reward_mean: float
    reward_std: float


@dataclass(frozen=True, slots=True)
class Answer(TableRow):
    """A model's greedy answer to one evaluation prompt, judged."""

    suite: str
    prompt_id: str
    prompt: str
    category: str
    text: str
    refused: bool | None
    """None where the judge could not tell: unscored, never counted as safe."""
    truncated: bool
