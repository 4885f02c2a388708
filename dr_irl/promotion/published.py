"""What is written about published models: versions, moves of the champion, and the names of both."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dr_irl.artifacts.backend import Backend
from dr_irl.artifacts.keys import MODELS
from dr_irl.artifacts.manifest import FileEntry, require_known_version
from dr_irl.artifacts.retry import until_sound
from dr_irl.errors import UserError
from dr_irl.json_text import parse_object

ADAPTER = "adapter"
VERSION_FILE, POINTER, HISTORY = "version.json", "champion.json", "history"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")

Record = TypeVar("Record", bound=BaseModel)


class Version(BaseModel):
    """A published version."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = 1
    name: str
    version: str
    about: dict[str, Any]
    """Where it comes from: run, base model, what it was compared with, the checks it passed."""
    files: dict[str, FileEntry]


class Move(BaseModel):
    """One entry of the history: since when which version is the champion."""

    model_config = ConfigDict(frozen=True)

    generation: int
    """Counts the moves of a model, from 1."""
    version: str
    previous: str | None
    """The champion before; None for the first."""
    action: Literal["promote", "rollback"]
    run_id: str | None
    """The run whose result it is; None for a rollback."""
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))


def is_name(text: str) -> bool:
    """Tell whether a model may be called so."""
    return _NAME.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Tell whether a version may be called so: the time and the fingerprint of a run."""
    return _VERSION.fullmatch(text) is not None


def require_name(name: str) -> str:
    """Return a model's name if it may be one.

    Raises:
        UserError: it may not.
    """
    if not is_name(name):
        raise UserError(
            f"{name!r} is no name of a model; allowed are up to 64 of a-z, 0-9, '.', '_' and '-', beginning with a "
            "letter or digit, for example safe-assistant"
        )
    return name


def version_of(run_id: str) -> str:
    """Return the version that a run's result is published as: the run's id without its profile."""
    return "-".join(run_id.rsplit("-", 3)[1:])


def version_key(name: str, version: str) -> str:
    """Return where the files of a version lie."""
    return f"{MODELS}/{name}/{version}"


def encoded(record: BaseModel) -> bytes:
    """Write a record as JSON that people read too."""
    return record.model_dump_json(indent=2).encode()


def read_record(backend: Backend, key: str, kind: type[Record]) -> Record:
    """Read a record.

    Raises:
        FileNotFoundError: there is none.
        CorruptArtifactError: it does not parse.
        StoreError: a newer version wrote it.
    """
    uri = f"{backend.uri}/{key}"

    def read() -> bytes:
        content = backend.read(key)
        with suppress(ValueError):  # told below, as damage
            require_known_version(parse_object(content).get("schema_version", 1), 1, f"{uri}: format")
        return content

    def fault(content: bytes) -> str | None:
        try:
            kind.model_validate_json(content)
        except ValidationError as error:
            return f"{uri} is damaged, or of another version of dr-irl ({error.error_count()} fields do not fit)"
        return None

    return kind.model_validate_json(until_sound(uri, read, fault))
