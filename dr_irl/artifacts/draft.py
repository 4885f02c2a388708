"""An artifact being built: what it is made from, what was written, and the manifest that says so."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dr_irl.artifacts.fingerprint import file_sha256
from dr_irl.artifacts.manifest import FileEntry, Manifest


@dataclass(frozen=True, slots=True)
class Identity:
    """What an artifact is made from; its fingerprint stands for the whole."""

    stage: str
    fingerprint: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    source: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Draft:
    """A local folder that nobody else sees until it is committed."""

    folder: Path
    started: float = field(default_factory=time.monotonic)

    def manifest(self, identity: Identity) -> bytes:
        """Describe the files that lie in the folder now."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
            entries = list(pool.map(describe_file, paths))
        names = [path.relative_to(self.folder).as_posix() for path in paths]
        manifest = Manifest(
            stage=identity.stage,
            fingerprint=identity.fingerprint,
            settings=dict(identity.settings),
            inputs=dict(identity.inputs),
            source=dict(identity.source),
            files=dict(zip(names, entries, strict=True)),
            wall_seconds=round(time.monotonic() - self.started, 3),
        )
        return manifest.model_dump_json(indent=2).encode()


def describe_file(path: Path) -> FileEntry:
    """Return a file's size and hash and, of a Parquet table, its rows and columns."""
    size, sha256 = path.stat().st_size, file_sha256(path)
    if path.suffix != ".parquet":
        return FileEntry(size=size, sha256=sha256)
    import pyarrow.parquet as pq  # takes as long to import as the rest of this package

    with pq.ParquetFile(path) as table:
        columns = {column.name: str(column.type) for column in table.schema_arrow}
        return FileEntry(size=size, sha256=sha256, rows=table.metadata.num_rows, columns=columns)
