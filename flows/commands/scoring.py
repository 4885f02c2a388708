"""What `dr-irl score` does: rows in, the panel of a run or of anywhere, rows with rewards out."""

import os
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
from botocore.exceptions import BotoCoreError, ClientError
from fsspec.core import url_to_fs

from dr_irl.artifacts import Store
from dr_irl.errors import DataError, UserError
from dr_irl.progress import ConsoleProgress, Meter
from dr_irl.reward.rows import SUFFIXES, Rows, RowSource, check_categories, survey_rows
from dr_irl.reward.scored import write_scored
from flows.record import RunRecord, load_run
from tasks.orchestration.opening import look_into

if TYPE_CHECKING:
    from dr_irl.reward.scoring import RowScorer, Tally

_STDIN = "-"
_UNREACHED = (OSError, BotoCoreError, ClientError)


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
        if self.uri.startswith("s3://"):
            return self.uri
        folder = Path(self.uri).expanduser()
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
        path = Path(file).expanduser()
        if file.startswith("s3://"):
            path = Path(folder) / f"rows{suffix}"
            try:
                fs, key = url_to_fs(file)
                fs.get_file(key, str(path))
            except _UNREACHED as error:
                raise _unreached(file, "read", error) from error
        elif not path.is_file():
            raise DataError(f"{file!r} is no file; name a local one, one on s3://, or - for standard input")
        yield RowSource(path, suffix, repr(file), category)


@contextmanager
def _target(output: str | None) -> Iterator[BufferedIOBase]:
    """Give a stream to write to; a file has its name only when it is whole."""
    if output is None:
        yield cast(BufferedIOBase, sys.stdout.buffer)
        return
    if output.startswith("s3://"):
        with tempfile.TemporaryFile() as stream:
            yield cast(BufferedIOBase, stream)
            stream.seek(0)
            try:
                fs, key = url_to_fs(output)
                with fs.open(key, "wb") as remote:
                    shutil.copyfileobj(stream, remote)
            except _UNREACHED as error:
                raise _unreached(output, "written", error) from error
        return
    path = Path(output).expanduser()
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    if path.is_dir():
        raise UserError(f"--output {output!r} is a folder; name a file in it")
    try:
        stream = aside.open("xb")
    except OSError as error:
        raise _unreached(output, "written", error) from error
    try:
        with stream:
            yield stream
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _suffix(name: str, what: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{what} {name!r} has the suffix {suffix!r}; allowed are {', '.join(SUFFIXES)}")
    if "://" in name and not name.startswith("s3://"):
        raise UserError(f"{what} {name!r}: only local paths and s3:// are allowed")
    return suffix


def _unreached(name: str, done: str, error: BaseException) -> UserError:
    reason = getattr(error, "strerror", None) or str(error)
    return UserError(
        f"{name!r} cannot be {done}: {str(reason).rstrip('.')}; check the path and its permissions and, for s3://, "
        "endpoint and credentials (AWS_* variables)"
    )
