"""What an artifact says of itself. It is written last: no manifest, no artifact."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dr_irl.artifacts.keys import MANIFEST_NAME, require_plain_key
from dr_irl.errors import CorruptArtifactError, StoreError
from dr_irl.json_text import parse_object

SCHEMA_VERSION = 2
_LIBRARIES = ("torch", "transformers", "peft", "sentence-transformers", "pyarrow")


class ArtifactRef(BaseModel):
    """Where an artifact is: what stages hand to each other instead of data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    fingerprint: str
    uri: str


class FileEntry(BaseModel):
    """One file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    """Bytes."""
    sha256: str
    rows: int | None = None
    """Rows of a Parquet table."""
    columns: dict[str, str] | None = None
    """Column -> Arrow type of a Parquet table, in order; None for other files, and in manifests of version 1."""


class Manifest(BaseModel):
    """The identity, provenance and contents of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    stage: str
    fingerprint: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    source: dict[str, str]
    """Module, or path of a package's data -> hash of what it gave to the making."""
    files: dict[str, FileEntry]
    libraries: dict[str, str] = Field(default_factory=lambda: {name: version(name) for name in _LIBRARIES})
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    wall_seconds: float


def require_known_version(seen: Any, newest: int, what: str) -> None:
    """Check a version before anything else that was written: what another dr-irl wrote is whole, and left as it is.

    Raises:
        StoreError: it is none from 1 to `newest`.
    """
    if type(seen) is not int or not 1 <= seen <= newest:
        raise StoreError(f"{what} version {seen}, and this dr-irl reads up to {newest}; upgrade dr-irl")


def parse_manifest(text: str | bytes, uri: str) -> Manifest:
    """Parse the manifest of the artifact at `uri`.

    Raises:
        CorruptArtifactError: it does not parse, or names files outside the artifact.
        StoreError: it was written by a newer version.
    """
    try:
        seen = parse_object(text)["schema_version"]
        # Before the fields: a newer version may well have others.
        require_known_version(seen, SCHEMA_VERSION, f"{uri}: manifest")
        manifest = Manifest.model_validate_json(text)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptArtifactError(f"{uri}: its {MANIFEST_NAME} does not parse") from error
    for name in manifest.files:
        try:
            require_plain_key(name)
        except StoreError:
            raise CorruptArtifactError(f"{uri}: its {MANIFEST_NAME} names {name!r}, outside the artifact") from None
    return manifest
