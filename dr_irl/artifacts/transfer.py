"""An artifact's files on this machine: verified where they lie, or downloaded and verified."""

import uuid
from collections.abc import Mapping
from pathlib import Path

from dr_irl.artifacts.backend import FileStat, ObjectBackend
from dr_irl.artifacts.explain import explained
from dr_irl.artifacts.fingerprint import file_sha256
from dr_irl.artifacts.manifest import FileEntry
from dr_irl.artifacts.retry import until_sound
from dr_irl.errors import CorruptArtifactError

Files = Mapping[str, FileEntry]


def require_sizes(found: Mapping[str, FileStat], prefix: str, files: Files) -> None:
    """Check that a listing shows every file of an artifact at its size.

    Raises:
        CorruptArtifactError: one is missing or of another size.
    """
    for name, entry in files.items():
        stat = found.get(f"{prefix}/{name}")
        if stat is None:
            raise CorruptArtifactError(f"{name} is missing: it should be {entry.size} bytes long")
        if stat.size != entry.size:
            raise CorruptArtifactError(f"{name} is {stat.size} bytes long, not {entry.size}")


def require_contents(folder: Path, files: Files) -> None:
    """Check the hash of every file of an artifact in a local folder.

    Raises:
        CorruptArtifactError: one does not match.
    """
    for name, entry in files.items():
        with explained("read", str(folder)):
            sound = file_sha256(folder / name) == entry.sha256
        if not sound:
            raise CorruptArtifactError(_mismatch(name))


def download(backend: ObjectBackend, prefix: str, files: Files, folder: Path, *, trusted: bool) -> None:
    """Bring an artifact's files into a local folder that keeps them.

    Args:
        backend: where they come from.
        prefix: the artifact's key.
        files: the artifact's files.
        folder: where they go.
        trusted: do not hash again what is there at its size; this process did.

    Raises:
        CorruptArtifactError: a file is missing or damaged on the server.
        StoreError: it cannot be reached, or transfers fail.
    """
    absent = {name: entry for name, entry in files.items() if not _is_here(folder / name, entry, trusted=trusted)}
    if absent:
        require_sizes(backend.files(prefix), prefix, absent)
    for name, entry in absent.items():
        _download_file(backend, f"{prefix}/{name}", folder / name, entry)


def _is_here(path: Path, entry: FileEntry, *, trusted: bool) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and (trusted or file_sha256(path) == entry.sha256)


def _download_file(backend: ObjectBackend, key: str, path: Path, entry: FileEntry) -> None:
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")

    def transfer() -> str | None:
        backend.download(key, aside)
        return file_sha256(aside) if aside.stat().st_size == entry.size else None

    def fault(sha256: str) -> str | None:
        return None if sha256 == entry.sha256 else _mismatch(path.name)

    try:
        with explained("write", str(path.parent)):
            path.parent.mkdir(parents=True, exist_ok=True)
        until_sound(f"{backend.uri}/{key}", transfer, fault)
        with explained("write", str(path.parent)):
            aside.replace(path)
    except FileNotFoundError:
        raise CorruptArtifactError(f"{path.name} is missing") from None
    finally:
        aside.unlink(missing_ok=True)


def _mismatch(name: str) -> str:
    return f"the contents of {name} do not match its hash"
