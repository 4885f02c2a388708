"""What a run leaves behind: its settings, and where each of its artifacts is."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.keys import RUNS
from dr_irl.config import Settings
from dr_irl.errors import UserError
from tasks.publishing import export_run
from tasks.trainers import trained_by


class RunRecord(BaseModel):
    """A finished run."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    settings: Settings
    artifacts: dict[str, ArtifactRef]
    """Node of the DAG -> its artifact."""


class _Made(BaseModel):
    """What every version writes into a record."""

    artifacts: dict[str, ArtifactRef]


def finish_run(
    store: Store, settings: Settings, artifacts: Mapping[str, ArtifactRef], output: Path | None
) -> RunRecord:
    """Record a run that has made every artifact, and copy what it is for to a folder, if one is given."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    trained = trained_by(settings)
    run_id = f"{settings.profile}-{stamp}-{artifacts[trained].fingerprint[:8]}"
    record = RunRecord(run_id=run_id, settings=settings, artifacts=dict(artifacts))
    text = record.model_dump_json(indent=2)
    store.write_text(_key(run_id), text)
    if output is not None:
        export_run(store, artifacts, trained, text, output)
    return record


def run_ids(store: Store) -> list[str]:
    """Return the ids of the finished runs, oldest first."""
    names = [key.removeprefix(f"{RUNS}/").removesuffix(".json") for key in store.list_keys(RUNS)]
    return sorted(names, key=lambda name: name.split("-")[-3:-1])


def load_run(store: Store, run_id: str) -> RunRecord:
    """Read the record of a run; `latest` is the newest.

    Raises:
        UserError: there is no such run, or another version of dr-irl wrote its record.
    """
    known = run_ids(store)
    if run_id == "latest" and known:
        run_id = known[-1]
    if run_id not in known:
        listed = ", ".join(known[-5:]) or "none yet; start one with: dr-irl run"
        raise UserError(f"store {store.uri!r} has no run {run_id!r}; it has: {listed}")
    try:
        return RunRecord.model_validate_json(store.read_text(_key(run_id)))
    except ValidationError as error:
        raise UserError(
            f"run {run_id!r} was recorded by another version of dr-irl ({error.error_count()} fields do not fit); "
            "use that version, or run again"
        ) from error
    except ValueError as error:
        raise UserError(f"the record {store.uri}/{_key(run_id)} is no text ({error}); run again") from error


def made_by(store: Store, run_id: str) -> list[ArtifactRef]:
    """Return the artifacts of a run, whichever version of dr-irl recorded it.

    Raises:
        UserError: its record cannot be read.
    """
    try:
        return list(_Made.model_validate_json(store.read_text(_key(run_id))).artifacts.values())
    except ValueError as error:
        raise UserError(
            f"the record of run {run_id!r} does not say what it made, so what to keep for it is not known; "
            f"repair or delete {store.uri}/{_key(run_id)}"
        ) from error


@contextmanager
def holding_run(store: Store, run_id: str, on_wait: Callable[[str], None] | None = None) -> Iterator[RunRecord]:
    """Read the record of a run, and keep what it made from being cleared up while a block runs.

    Args:
        store: the store.
        run_id: the run, or `latest`.
        on_wait: called once, with a sentence, if the store is being cleared up.

    Raises:
        UserError: there is no such run, or it was cleared up just now.
    """
    record = load_run(store, run_id)
    with store.needing(record.artifacts.values(), on_wait):
        yield load_run(store, record.run_id)


def forget_run(store: Store, run_id: str) -> None:
    """Delete the record of a run: nothing is then kept for its sake."""
    store.backend.delete([_key(run_id)])


def _key(run_id: str) -> str:
    return f"{RUNS}/{run_id}.json"
