"""What an artifact says of itself. It is written last: no manifest, no artifact."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1
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


class Manifest(BaseModel):
    """The identity, provenance and contents of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    stage: str
    fingerprint: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    source: dict[str, str]
    """Module -> hash of its source, imports included."""
    files: dict[str, FileEntry]
    libraries: dict[str, str] = Field(default_factory=lambda: {name: version(name) for name in _LIBRARIES})
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    wall_seconds: float
