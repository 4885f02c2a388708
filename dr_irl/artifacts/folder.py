"""A store in a folder: whole files and whole artifacts appear by rename."""

import errno
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from dr_irl.artifacts.backend import FileDigest, FileStat
from dr_irl.artifacts.explain import explained
from dr_irl.artifacts.fingerprint import file_sha256
from dr_irl.artifacts.keys import MANIFEST_NAME, OBJECTS, STAGING, damaged_key, temporary_name
from dr_irl.artifacts.manifest import FileEntry
from dr_irl.artifacts.transfer import require_contents, require_sizes

logger = logging.getLogger(__name__)

T = TypeVar("T")
_MOST_VANISHED = 10
_WITHOUT_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""So file systems answer that have no hard links, such as those of memory cards."""


class FolderBackend:
    """Files below a folder; see `Backend`."""

    def __init__(self, root: Path) -> None:
        """Name the folder; it is made when something is first written."""
        self.root = root
        self.uri = str(root)

    def read(self, key: str) -> bytes:
        """Return a file's contents."""
        with explained("read", self.uri):
            return (self.root / key).read_bytes()

    def read_foreign(self, key: str) -> bytes:
        """Return the contents of a file that others put there: no link is followed, and no pipe is waited for."""
        with explained("read", self.uri), _opened_without_links(self.root, key) as stream:
            return stream.read()

    def read_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return the contents of several files, without those that do not exist."""
        found: dict[str, bytes] = {}
        for key in keys:
            with suppress(FileNotFoundError):
                found[key] = self.read(key)
        return found

    def digest(self, key: str) -> FileDigest:
        """Return the size and SHA-256 of a file."""
        with explained("read", self.uri):
            path = self.root / key
            return FileDigest(path.stat().st_size, file_sha256(path))

    def write(self, key: str, content: bytes) -> None:
        """Create or replace a file by rename."""
        with explained("write", self.uri):
            _in_its_folder(self.root / key, lambda path: _write_atomically(path, content))

    def create(self, key: str, content: bytes, *, settle_seconds: float = 0.0) -> bool:
        """Create a file unless there is one; the file system decides who is first, so nothing need settle."""
        with explained("write", self.uri):
            return _in_its_folder(self.root / key, lambda path: _write_first(path, content))

    def names(self) -> Sequence[str]:
        """Return the names directly below the root."""
        with explained("open", self.uri):
            return sorted(path.name for path in self.root.iterdir()) if self.root.exists() else []

    def files(self, prefix: str) -> Mapping[str, FileStat]:
        """Return every file below `prefix`, by its key."""
        with explained("list", self.uri):
            return dict(self._walk(self.root / prefix))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files, and folders that are empty without them."""
        with explained("write", self.uri):
            for key in keys:
                (self.root / key).unlink(missing_ok=True)
                self._prune(self.root / key)

    def delete_tree(self, prefix: str) -> None:
        """Delete everything below `prefix`."""
        with explained("write", self.uri):
            with suppress(FileNotFoundError):
                shutil.rmtree(self.root / prefix)
            self._prune(self.root / prefix)

    def move(self, prefix: str, target: str) -> None:
        """Rename a folder."""
        with explained("write", self.uri):
            (self.root / target).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another run moved it meanwhile
                (self.root / prefix).rename(self.root / target)

    def publish(self, staged: Path, prefix: str, manifest: bytes, *, replace: bool) -> None:
        """Flush every file, write the manifest last, then rename: readers see all of it or nothing."""
        with explained("write", self.uri):
            (staged / MANIFEST_NAME).write_bytes(manifest)
            for path in (*staged.rglob("*"), staged):
                _flush(path)
            staged.chmod(0o755)
            target = self.root / prefix
            replaced = self._set_aside(target) if replace else None
            try:
                _in_its_folder(target, lambda target: self._rename(staged, target))
            except BaseException:
                if replaced is not None and not target.exists():
                    _in_its_folder(target, replaced.rename)
                raise
            _flush(target.parent)
            if replaced is not None:
                shutil.rmtree(replaced)

    def bring(self, prefix: str, files: Mapping[str, FileEntry], cache: Path, *, trusted: bool) -> Path:
        """Return the folder of an artifact, verified where it lies."""
        require_sizes(self.files(prefix), prefix, files)
        if not trusted:
            require_contents(self.root / prefix, files)
        return self.root / prefix

    def probe(self) -> None:
        """Make the folder and write a file into it that has no name."""
        with explained("open", self.uri):
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as probe:
                probe.write(b"0")

    def _rename(self, staged: Path, target: Path) -> None:
        try:
            staged.rename(target)
        except OSError:
            if (target / MANIFEST_NAME).is_file():
                logger.info("%s was committed by another run meanwhile; keeping that one", target)
                return
            if not staged.exists():
                raise OSError(f"the scratch folder {staged} was deleted while it was filled") from None
            if not target.exists():
                raise
            stage, fingerprint = target.relative_to(self.root / OBJECTS).parent.as_posix(), target.name
            leftovers = self.root / damaged_key(stage, fingerprint)
            leftovers.parent.mkdir(parents=True, exist_ok=True)
            target.rename(leftovers)
            logger.warning("files without a manifest were in the way and moved to %s", leftovers)
            staged.rename(target)

    def _set_aside(self, target: Path) -> Path | None:
        """Move an artifact that is being replaced to where scratch folders lie."""
        (self.root / STAGING).mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return target.rename(self.root / STAGING / temporary_name(target.name).lstrip("."))
        return None

    def _walk(self, folder: Path) -> Iterator[tuple[str, FileStat]]:
        for parent, _, names in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                with suppress(FileNotFoundError):  # deleted since it was listed
                    entry = path.lstat()
                    regular = stat.S_ISREG(entry.st_mode)
                    if stat.S_ISLNK(entry.st_mode) and path.exists():
                        entry = path.stat()
                    # A rename or a copy keeps the time of the contents; the later of the two says when it came here.
                    seen = FileStat(entry.st_size, max(entry.st_mtime, entry.st_ctime), regular)
                    yield path.relative_to(self.root).as_posix(), seen

    def _prune(self, path: Path) -> None:
        """Remove folders that became empty, down to those directly below the root."""
        with suppress(OSError):  # not empty, or another process was first
            for parent in path.parents:
                if self.root not in parent.parents or parent.parent == self.root:
                    break
                parent.rmdir()


@contextmanager
def _opened_without_links(root: Path, key: str) -> Iterator[BinaryIO]:
    """Open a regular file, one part of its key after the other, so that none can be made a link in between."""
    *folders, name = key.split("/")
    with ExitStack() as stack:

        def opened(name: str | Path, flags: int, within: int | None = None) -> int:
            descriptor = os.open(name, flags, dir_fd=within)
            stack.callback(os.close, descriptor)
            return descriptor

        at = opened(root, os.O_RDONLY | os.O_DIRECTORY)
        for folder in folders:
            at = opened(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, at)
        descriptor = opened(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, at)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        yield stack.enter_context(open(descriptor, "rb", closefd=False))


def _in_its_folder(path: Path, write: Callable[[Path], T]) -> T:
    """Write a file into a folder made for it, which another process may remove as long as it is empty."""
    for _ in range(_MOST_VANISHED):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return write(path)
    raise OSError(f"{path.parent} vanished {_MOST_VANISHED} times while {path.name} was written")


def _write_first(path: Path, content: bytes) -> bool:
    """Create a file whole: whoever is killed leaves all of it or nothing under its name."""
    aside = path.with_name(temporary_name(path.name))
    try:
        aside.write_bytes(content)
        _flush(aside)
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _WITHOUT_LINKS:
                raise
            return _write_first_in_place(path, content)
    finally:
        aside.unlink(missing_ok=True)
    return True


def _write_first_in_place(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as stream:
            stream.write(content)
    except FileExistsError:
        return False
    return True


def _write_atomically(path: Path, content: bytes) -> None:
    aside = path.with_name(temporary_name(path.name))
    try:
        aside.write_bytes(content)
        _flush(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
