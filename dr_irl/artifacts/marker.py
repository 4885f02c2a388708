"""Opening a store: whether a place is one, may become one, or belongs to something else."""

import json

from dr_irl.artifacts.address import S3Address, is_on_s3, parse_address
from dr_irl.artifacts.backend import Backend
from dr_irl.artifacts.explain import explained
from dr_irl.artifacts.folder import FolderBackend
from dr_irl.artifacts.keys import MARKER, TOP_LEVEL, is_temporary
from dr_irl.errors import StoreError
from dr_irl.json_text import parse_json

FORMAT = 1
_NOT_IN_USE = TOP_LEVEL | {"lost+found"}  # what a fresh volume holds


def open_backend(uri: str, *, read_only: bool) -> Backend:
    """Open the store at a folder or `s3://bucket/prefix`.

    Args:
        uri: the place.
        read_only: write nothing, not even the marker of a new store.

    Raises:
        StoreError: it is no such place, cannot be reached or written, is in use by something else or is of a newer
            format.
    """
    place = parse_address(uri, "store", StoreError)
    if not isinstance(place, S3Address):
        with explained("open", str(place)):
            folder = FolderBackend(place.resolve())
        _claim(folder, read_only=read_only)
        return folder
    from dr_irl.artifacts.s3 import S3Backend  # its libraries take a quarter of a second to import

    quick = S3Backend(place, opening=True)
    _claim(quick, read_only=read_only)
    patient = S3Backend(place)
    patient.conditional = quick.conditional
    return patient


def _claim(backend: Backend, *, read_only: bool) -> None:
    try:
        _require_known_format(backend.read(MARKER), backend.uri)
        marked = True
    except FileNotFoundError:
        _require_unused(backend)
        marked = False
    if not read_only:
        backend.probe()
        if not marked:
            backend.write(MARKER, json.dumps({"format": FORMAT}).encode())


def _require_unused(backend: Backend) -> None:
    # A temporary name is the marker itself, which another run is writing, or was when it was killed.
    foreign = [name for name in backend.names() if name not in _NOT_IN_USE and not is_temporary(name)]
    if foreign:
        kind = "prefix" if is_on_s3(backend.uri) else "folder"
        raise StoreError(
            f"cannot open the store {backend.uri!r}: the {kind} is in use by something else: it has no {MARKER} and "
            f"holds {foreign[0]!r}; name an empty or new {kind}, for example {backend.uri + '/store'!r}"
        )


def _require_known_format(content: bytes, uri: str) -> None:
    try:
        marker = parse_json(content)
        # Before there were formats the marker said 1.
        seen = int(marker["format"] if isinstance(marker, dict) else marker)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise StoreError(
            f"cannot open the store {uri!r}: its {MARKER} says {content[:40]!r}; a store of this version has "
            f'{{"format": {FORMAT}}} there: if the folders beside it are a store, write that into it'
        ) from error
    if seen > FORMAT:
        raise StoreError(
            f"cannot open the store {uri!r}: it is of format {seen}, and this dr-irl reads up to {FORMAT}; "
            "upgrade dr-irl"
        )
