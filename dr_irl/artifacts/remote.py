"""What others put on S3: models, files of rows. Nobody promises that it stays, so each object has the server's stamp.

Bytes that are used are those of the stamp that was looked at, whole and unaltered, or none.
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dr_irl.artifacts.address import S3Address
from dr_irl.artifacts.backend import Received, Stamp
from dr_irl.artifacts.explain import explained
from dr_irl.artifacts.manifest import FileEntry
from dr_irl.artifacts.retry import until_sound
from dr_irl.artifacts.s3 import S3Backend
from dr_irl.errors import CorruptArtifactError, StoreError

_MD5 = re.compile("[0-9a-f]{32}")


def list_objects(address: S3Address, called: str) -> Mapping[str, Stamp]:
    """Return the stamps of all objects below a prefix, by their name seen from there.

    Raises:
        StoreError: the server cannot be reached, or refuses.
    """
    return dict(sorted(S3Backend(address, opening=True, called=called).stamps().items()))


def look_at_object(address: S3Address, called: str) -> Stamp:
    """Return the stamp of an object.

    Raises:
        FileNotFoundError: there is none.
        StoreError: the server cannot be reached, or refuses.
    """
    folder, name = _split(address)
    stamp = S3Backend(folder, opening=True, called=called).stamp(name)
    if stamp is None:
        raise FileNotFoundError(address.uri)
    return stamp


def bring_objects(
    address: S3Address, stamps: Mapping[str, Stamp], folder: Path, called: str
) -> Mapping[str, FileEntry]:
    """Copy objects below a prefix into a folder of this machine, and return what arrived: sizes and hashes.

    Args:
        address: the prefix.
        stamps: of the objects that are copied.
        folder: where they go.
        called: what it is, for the sentences of errors.

    Raises:
        StoreError: one is another than its stamp says, or does not arrive whole.
    """
    for name in stamps:
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise StoreError(f"{called} {address.uri!r} has an object {name!r}, which can be no file here; rename it")
    backend, entries = S3Backend(address, called=called), dict[str, FileEntry]()
    for name, stamp in stamps.items():
        target = folder / name
        with explained("write", str(target.parent), "folder"):
            target.parent.mkdir(parents=True, exist_ok=True)
        got = _receive(backend, name, stamp, target)
        entries[name] = FileEntry(size=got.size, sha256=got.sha256)
    return entries


def read_object(address: S3Address, called: str) -> bytes:
    """Return the contents of an object, as they are now.

    Raises:
        FileNotFoundError: there is none.
        StoreError: it cannot be read, or does not arrive whole.
    """
    with tempfile.TemporaryDirectory(prefix="dr-irl-object-") as scratch:
        bring_object(address, Path(scratch, "object"), called)
        return Path(scratch, "object").read_bytes()


def bring_object(address: S3Address, path: Path, called: str) -> None:
    """Copy an object to a file; see `read_object`."""
    folder, name = _split(address)
    _receive(S3Backend(folder, called=called), name, look_at_object(address, called), path)


def put_object(path: Path, address: S3Address, called: str) -> None:
    """Copy a file to an object; readers see the old one or the new one.

    Raises:
        StoreError: it cannot be written, or what arrived has another size.
    """
    folder, name = _split(address)
    backend, size = S3Backend(folder, called=called), path.stat().st_size
    backend.upload(path, name)
    if (arrived := backend.size(name)) != size:
        raise StoreError(f"{called} {address.uri!r} was written with {size} bytes, but has {arrived}; run again")


def _receive(backend: S3Backend, name: str, stamp: Stamp, path: Path) -> Received:
    uri = f"{backend.uri}/{name}"

    def read() -> Received | None:
        got = backend.receive(name, path)
        if got.stamp != stamp:
            raise StoreError(f"{uri!r} was replaced while it was read; run again when nobody writes there")
        return got if got.size == stamp.size else None

    def fault(got: Received) -> str | None:
        if got.md5 in (None, stamp.etag) or not _MD5.fullmatch(stamp.etag):
            return None
        return f"{uri!r} is damaged where it lies: its contents do not match their ETag; put it there again"

    try:
        return until_sound(uri, read, fault)
    except FileNotFoundError:
        raise StoreError(f"{uri!r} was deleted while it was read; run again when nobody writes there") from None
    except CorruptArtifactError as error:
        raise StoreError(str(error)) from error


def _split(address: S3Address) -> tuple[S3Address, str]:
    folder, _, name = address.key.rpartition("/")
    return S3Address(address.bucket, folder), name
