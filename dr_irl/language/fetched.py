"""Models on S3: fetched once into a folder that is named for what lay there, and looked at again before each use.

Other weights at the same prefix are another folder. What can run code when it is loaded is not fetched.
"""

import fcntl
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from dr_irl.artifacts.address import S3Address
from dr_irl.artifacts.backend import Stamp
from dr_irl.artifacts.cache import cache_folder
from dr_irl.artifacts.explain import explained
from dr_irl.artifacts.manifest import FileEntry
from dr_irl.artifacts.transfer import require_contents
from dr_irl.errors import CorruptArtifactError, ModelError
from dr_irl.json_text import parse_object

logger = logging.getLogger(__name__)

SUFFIXES = (".json", ".safetensors", ".txt", ".model", ".jinja")
"""Of the files of a model that are read; weights in other formats are unpickled, and a `.py` is run."""
_RECORD = ".fetched.json"
_VERIFIED: set[Path] = set()
"""Folders whose files this process has hashed."""


def stamps_of(address: S3Address) -> Mapping[str, Stamp]:
    """Return what the server says of each file of a model, by its path below the prefix.

    Raises:
        ModelError: there is no file that a model could be loaded from.
        StoreError: the server cannot be reached.
    """
    from dr_irl.artifacts.remote import list_objects  # its libraries take a quarter of a second to import

    found = list_objects(address, "model")
    wanted = {name: stamp for name, stamp in found.items() if PurePosixPath(name).suffix in SUFFIXES}
    if wanted:
        return wanted
    if not found:
        raise ModelError(f"model {address.uri!r}: there is nothing under that prefix")
    raise ModelError(
        f"model {address.uri!r}: of the files under that prefix none is fetched, for example {next(iter(found))!r}; "
        f"allowed are {', '.join(SUFFIXES)}: save the model as safetensors"
    )


def fetch_tree(address: S3Address, stamps: Mapping[str, Stamp], folder: Path) -> Mapping[str, FileEntry]:
    """Copy the files of a model into a folder, each checked for its size and hash; returns these.

    Raises:
        StoreError: one was replaced meanwhile, is damaged, or cannot be read.
    """
    from dr_irl.artifacts.remote import bring_objects

    return bring_objects(address, stamps, folder, "model")


def fetch_model(address: S3Address) -> Path:
    """Return a local folder with a model's files as they lie on S3 now.

    Raises:
        ModelError: there is no model.
        StoreError: it cannot be read, or not be kept here.
    """
    stamps = stamps_of(address)
    if "config.json" not in stamps:
        raise ModelError(f"model {address.uri!r}: there is no config.json under that prefix")
    name = hashlib.sha256(json.dumps([address.uri, stamps]).encode()).hexdigest()[:32]
    folder = cache_folder() / "models" / "s3" / name
    with explained("write", str(folder.parent), "cache"), _alone_with(folder):
        if folder.is_dir() and not _is_sound(folder):
            shutil.rmtree(folder)
        if not folder.is_dir():
            _fetch(address, stamps, folder)
    return folder


def _fetch(address: S3Address, stamps: Mapping[str, Stamp], folder: Path) -> None:
    for left in folder.parent.glob(f"{folder.name}-*"):  # by who was killed: nobody else is here now
        shutil.rmtree(left)
    aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        entries = fetch_tree(address, stamps, aside)
        (aside / _RECORD).write_text(json.dumps({file: entry.model_dump() for file, entry in entries.items()}))
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _VERIFIED.add(folder)


def _is_sound(folder: Path) -> bool:
    """Tell whether a folder holds what was fetched; hashed once per process, and its sizes each time."""
    try:
        record = parse_object((folder / _RECORD).read_bytes())
        entries = {file: FileEntry.model_validate(entry) for file, entry in record.items()}
        for file, entry in entries.items():
            if (folder / file).stat().st_size != entry.size:
                raise CorruptArtifactError(f"{file} is not {entry.size} bytes long")
        if folder not in _VERIFIED:
            require_contents(folder, entries)
    except (CorruptArtifactError, OSError, ValueError) as error:
        logger.warning("%s is damaged and fetched again: %s", folder, error)
        return False
    _VERIFIED.add(folder)
    return True


@contextmanager
def _alone_with(folder: Path) -> Iterator[None]:
    """Hold the right to write a folder, among all processes of this machine."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another process that fetches the same model")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
