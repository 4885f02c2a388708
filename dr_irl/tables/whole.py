"""Files of users that are written whole or not touched."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path


@contextmanager
def writing_whole(path: Path) -> Iterator[BufferedIOBase]:
    """Give a stream to a file that gets its name when the block ends well; until then the old one stays.

    A link stays a link, and a file keeps its mode and, where that is allowed, its owner. What is no regular file, such
    as a pipe, is written to as it comes.

    Args:
        path: the file; its folder must exist.

    Raises:
        OSError: it cannot be written.
    """
    target = path.resolve()
    before = target.stat() if target.exists() else None
    if before is not None and not stat.S_ISREG(before.st_mode):
        with target.open("wb") as stream:
            yield stream
        return
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with aside.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if before is not None:
            with suppress(PermissionError):
                os.chown(aside, before.st_uid, before.st_gid)
            aside.chmod(stat.S_IMODE(before.st_mode))
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
