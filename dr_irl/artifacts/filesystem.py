"""Folders and S3 prefixes as the store needs them: opened, probed, and written all or nothing."""

import errno
import logging
import os
import tempfile
import uuid
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.asyn import sync
from fsspec.core import url_to_fs
from fsspec.exceptions import FSTimeoutError
from fsspec.implementations.local import LocalFileSystem

from dr_irl.errors import StoreError

logger = logging.getLogger(__name__)

_PROBE_SECONDS = 10


def open_filesystem(uri: str, *, is_local: bool) -> tuple[AbstractFileSystem, str]:
    """Open a writable folder, created if needed, or S3 prefix; returns it with the path of its root."""
    if is_local:
        Path(uri).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=uri) as probe:
            probe.write(b"0")
        return LocalFileSystem(), uri
    # A wrong endpoint is told within seconds; a run under way sits out an outage of half a minute.
    _probe_s3(*url_to_fs(uri, **_s3_options(attempts=2)))
    return url_to_fs(uri, **_s3_options(attempts=5))


def require_plain_key(key: str) -> str:
    """Return `key` if it names a file or folder below the store's root, and nothing outside it.

    Raises:
        StoreError: it is empty, absolute, or has a part that is empty, `.` or `..`.
    """
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise StoreError(f"{key!r} is no key of the store; allowed are names joined by '/', without '.' and '..'")
    return key


def is_full_disk(error: BaseException) -> bool:
    """Tell whether a write failed for want of space; safetensors says so in words only."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)


def publish_folder(staged: Path, target: Path, manifest: tuple[str, bytes], *, leftovers: Path) -> None:
    """Flush every file, write the manifest last, then rename: readers see all of it or nothing.

    Args:
        staged: the folder to publish; it is gone afterwards, unless another run was first.
        target: its new name. What lies there without a manifest is no artifact, and in the way.
        manifest: name and contents of the file that makes a folder an artifact.
        leftovers: where something in the way is moved to.
    """
    name, text = manifest
    (staged / name).write_bytes(text)
    for path in (*staged.rglob("*"), staged):
        _flush(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged.chmod(0o755)
    try:
        staged.rename(target)
    except OSError:
        if (target / name).is_file():
            logger.info("%s was committed by another run meanwhile; keeping that one", target)
            return
        if not target.exists():
            raise
        leftovers.parent.mkdir(parents=True, exist_ok=True)
        target.rename(leftovers)
        logger.warning("files without a manifest were in the way and moved to %s", leftovers)
        staged.rename(target)
    _flush(target.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's contents: readers see the old or the new, whole."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        aside.write_bytes(content)
        _flush(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    _flush(path.parent)


def _probe_s3(fs: Any, root: str) -> None:
    """Write a marker; a server that accepts the connection and then says nothing must not stop us for ever."""
    fs.retries = 1
    try:
        sync(fs.loop, fs._pipe_file, f"{root}/.dr-irl-store", b"1\n", timeout=_PROBE_SECONDS)
    except FSTimeoutError:
        raise TimeoutError(f"the endpoint gave no answer within {_PROBE_SECONDS} s") from None


def _s3_options(*, attempts: int) -> dict[str, Any]:
    return {
        "use_listings_cache": False,  # other processes write to the store too
        "config_kwargs": {
            # Some S3 servers answer ranged reads with the checksum of the whole object; ask only where required.
            "response_checksum_validation": "when_required",
            "request_checksum_calculation": "when_required",
            "retries": {"total_max_attempts": attempts, "mode": "standard"},
        },
    }


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
