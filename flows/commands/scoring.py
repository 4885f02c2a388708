"""What `dr-irl score` does: rows in, the panel of a run or of anywhere, rows with rewards out."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

import typer

from dr_irl.artifacts import Store
from dr_irl.artifacts.address import S3Address, parse_address
from dr_irl.errors import DataError, UserError
from dr_irl.progress import ConsoleProgress, Meter
from dr_irl.reward.rows import Rows, RowSource, check_categories, survey_rows
from dr_irl.reward.scored import write_scored
from dr_irl.tables.formats import SUFFIXES
from dr_irl.tables.whole import writing_whole
from flows.record import RunRecord, load_run
from tasks.orchestration.opening import look_into

if TYPE_CHECKING:
    from dr_irl.reward.scoring import RowScorer, Tally

_STDIN = "-"


@dataclass(frozen=True)
class PanelChoice:
    """Which reward models: those at `uri`, or those of a run."""

    uri: str | None
    run_id: str | None
    store: str

    def find(self) -> str | Path:
        """Return where the panel is: a folder here, or under `s3://`.

        Raises:
            UserError: both or no such panel was named.
        """
        if self.uri is None:
            store = look_into(self.store)
            return fetch(store, load_run(store, self.run_id or "latest"), "panel")
        if self.run_id is not None:
            raise UserError(f"--panel {self.uri!r} and --run {self.run_id!r} both name reward models; give one of them")
        folder = parse_address(self.uri, "--panel")
        if isinstance(folder, S3Address):
            return folder.uri
        if not folder.is_dir():
            raise UserError(f"--panel {self.uri!r} is no folder; name a folder, or s3://bucket/prefix")
        return folder


def fetch(store: Store, record: RunRecord, name: str) -> Path:
    """Bring an artifact of a run here.

    Raises:
        UserError: the run has none of that name, or it is no longer in the store.
    """
    if name not in record.artifacts:
        raise UserError(f"run {record.run_id!r} has no artifact {name!r}: an older version made it; run it again")
    try:
        return store.fetch(record.artifacts[name])
    except FileNotFoundError as error:
        raise UserError(
            f"{name!r} of run {record.run_id!r} is no longer in store {store.uri!r}; the same run builds it again"
        ) from error


def score_rows(file: str | None, output: str | None, panel: PanelChoice, *, category: str | None, device: str) -> None:
    """Score the rows of a file, and say on standard error what came of it.

    Args:
        file: its name, local or on S3; `-` or None for JSONL on standard input.
        output: file to write, local or on S3; None for JSONL on standard output.
        panel: the reward models.
        category: of all rows; None to take each row's own.
        device: where the reward models run.

    Raises:
        UserError: a file, the panel or the device is not what it should be; nothing is written then.
    """
    suffix = ".jsonl" if output is None else _suffix(output, "--output")
    with ExitStack() as stack:
        source = stack.enter_context(_source(file, category))
        survey = survey_rows(source, typed=suffix == ".parquet")
        target = stack.enter_context(_target(output))
        place = panel.find()
        from dr_irl.reward.panel import RewardPanel  # seconds of imports, which a wrong file should not cost
        from dr_irl.reward.scoring import RowScorer

        models = RewardPanel.load(place, device=device)
        check_categories(source, survey, models.categories)
        scorer = RowScorer(models)
        with ConsoleProgress() as progress, progress.stage("score", survey.rows, "rows") as meter:
            write_scored(_scored(source, scorer, meter), target, suffix, survey)
    _print_summary(scorer.tallies)


def _scored(source: RowSource, scorer: "RowScorer", meter: Meter) -> Iterator[Rows]:
    for batch in source.batches():
        yield scorer.score(batch)
        meter.advance(len(batch.numbers))


def _print_summary(tallies: "Mapping[str, Tally]") -> None:
    for category, tally in tallies.items():
        if tally.rows:
            typer.echo(
                f"{category:<26} {tally.rows:>8} rows  mean reward {tally.mean:>7.2f}  {tally.cut:>6} cut", err=True
            )
    if trimmed := sum(tally.trimmed for tally in tallies.values()):
        typer.echo(
            f"{trimmed} of {sum(tally.rows for tally in tallies.values())} answers held markers of a turn, such as an "
            "end token, or thoughts: scored without them",
            err=True,
        )


@contextmanager
def _source(file: str | None, category: str | None) -> Iterator[RowSource]:
    """Give a local file with the rows, for they are read twice."""
    with tempfile.TemporaryDirectory(prefix="dr-irl-score-") as folder:
        if file is None or file == _STDIN:
            if file is None and sys.stdin.isatty():
                raise UserError("there is nothing to score: name a file, or pipe JSONL into the command")
            path = Path(folder) / "rows.jsonl"
            with path.open("wb") as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            yield RowSource(path, ".jsonl", "standard input", category)
            return
        suffix = _suffix(file, "FILE")
        path = parse_address(file, "FILE", DataError)
        if isinstance(path, S3Address):
            from dr_irl.artifacts.remote import bring_object

            address, path = path, Path(folder) / f"rows{suffix}"
            try:
                bring_object(address, path, "file")
            except FileNotFoundError as error:
                raise DataError(f"{file!r} does not exist; check bucket and key") from error
        elif not path.is_file():
            raise DataError(f"{file!r} is no file; name a local one, one on s3://, or - for standard input")
        yield RowSource(path, suffix, repr(file), category)


@contextmanager
def _target(output: str | None) -> Iterator[BufferedIOBase]:
    """Give a stream to write to; a file has its name only when it is whole."""
    if output is None:
        yield cast(BufferedIOBase, sys.stdout.buffer)
        return
    path = parse_address(output, "--output")
    if isinstance(path, S3Address):
        from dr_irl.artifacts.remote import put_object

        with tempfile.NamedTemporaryFile() as stream:
            yield cast(BufferedIOBase, stream)
            stream.flush()
            put_object(Path(stream.name), path, "file")
        return
    if path.is_dir():
        raise UserError(f"--output {output!r} is a folder; name a file in it")
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(writing_whole(path))
        except OSError as error:
            raise _unwritten(output, error) from error
        yield stream


def _suffix(name: str, what: str) -> str:
    parse_address(name, what)
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{what} {name!r} has the suffix {suffix!r}; allowed are {', '.join(SUFFIXES)}")
    return suffix


def _unwritten(name: str, error: OSError) -> UserError:
    return UserError(f"{name!r} cannot be written: {error.strerror}; check the path, its permissions and free space")
