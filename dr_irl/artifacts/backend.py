"""What the store needs of the place it lies in: a folder or an S3 prefix, addressed by keys below its root."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from dr_irl.artifacts.manifest import FileEntry


class FileStat(NamedTuple):
    """What a listing says of a file."""

    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970, by the clock of whoever keeps the file."""
    regular: bool = True
    """False for a link, a pipe, a device: what others put there, for the store makes none."""


class FileDigest(NamedTuple):
    """What reading a file says of it."""

    size: int
    """Bytes."""
    sha256: str


class Stamp(NamedTuple):
    """What a server says of an object's contents: other contents have another."""

    size: int
    """Bytes."""
    etag: str
    """The MD5 of the contents, if the object was put in one part; else a name for them."""


class Received(NamedTuple):
    """What arrived of an object."""

    stamp: Stamp
    """As the server said it with the contents."""
    size: int
    """Bytes."""
    sha256: str
    md5: str | None
    """None where the ETag could not be one."""


@runtime_checkable
class Backend(Protocol):
    """Files under keys. Every failure is a StoreError; what is absent is a FileNotFoundError on reading."""

    uri: str

    def read(self, key: str) -> bytes:
        """Return a file's contents."""
        ...

    def read_foreign(self, key: str) -> bytes:
        """Return the contents of a file that others put there: no link is followed, and no pipe is waited for."""
        ...

    def read_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return the contents of several files, without those that do not exist."""
        ...

    def digest(self, key: str) -> FileDigest:
        """Read a file as it lies there, and return its size and hash."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Create or replace a file: readers see the old contents or the new, whole."""
        ...

    def create(self, key: str, content: bytes, *, settle_seconds: float = 0.0) -> bool:
        """Create a file unless there is one; tells whether the file is now ours."""
        ...

    def names(self) -> Sequence[str]:
        """Return the names directly below the root."""
        ...

    def files(self, prefix: str) -> Mapping[str, FileStat]:
        """Return every file below `prefix`, however deep, by its key."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files; what is gone already is fine."""
        ...

    def delete_tree(self, prefix: str) -> None:
        """Delete everything below `prefix`; what is gone already is fine."""
        ...

    def move(self, prefix: str, target: str) -> None:
        """Move everything below `prefix`, its manifest first out of sight; what is gone already is fine."""
        ...

    def publish(self, staged: Path, prefix: str, manifest: bytes, *, replace: bool) -> None:
        """Make an artifact of a local folder; one that is there already is kept, or replaced if so asked."""
        ...

    def bring(self, prefix: str, files: Mapping[str, FileEntry], cache: Path, *, trusted: bool) -> Path:
        """Return a local folder with an artifact's files, verified: where they lie, or `cache` with copies of them.

        Raises:
            CorruptArtifactError: a file is missing or damaged where it lies.
        """
        ...

    def probe(self) -> None:
        """Write and delete a small file: an unwritable store is told before work is done for it."""
        ...


@runtime_checkable
class ObjectBackend(Backend, Protocol):
    """A backend whose files lie elsewhere and are copied here and back."""

    def upload(self, path: Path, key: str) -> None:
        """Copy a local file to `key`."""
        ...

    def size(self, key: str) -> int | None:
        """Return the bytes of a file, or None if there is none."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Copy a file to a local path."""
        ...
