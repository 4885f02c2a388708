"""The artifact store: one interface over a folder and an `s3://bucket/prefix`."""

import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError, ClientError
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from pydantic import ValidationError

from dr_irl.artifacts.fingerprint import file_sha256
from dr_irl.artifacts.manifest import MANIFEST_NAME, SCHEMA_VERSION, ArtifactRef, FileEntry, Manifest
from dr_irl.errors import CorruptArtifactError, StoreError

logger = logging.getLogger(__name__)

# Some S3 servers answer ranged reads with the checksum of the whole object; ask only where it is required.
_S3_OPTIONS: dict[str, Any] = {
    "config_kwargs": {
        "response_checksum_validation": "when_required",
        "request_checksum_calculation": "when_required",
        "retries": {"max_attempts": 5, "mode": "standard"},
    }
}
_FAILURES = (OSError, BotoCoreError, ClientError)


@dataclass(frozen=True, slots=True)
class Identity:
    """What an artifact is made from; its fingerprint stands for the whole."""

    stage: str
    fingerprint: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    source: Mapping[str, str]


@dataclass
class Draft:
    """An artifact being built: a local folder that nobody else sees until it is committed."""

    folder: Path
    started: float = field(default_factory=time.monotonic)


class Store:
    """Content-addressed artifacts under `objects/<stage>/<fingerprint>/`, run records under `runs/`."""

    def __init__(self, uri: str) -> None:
        """Open the store at a folder or `s3://bucket/prefix`, and create it if needed.

        Raises:
            StoreError: it cannot be reached or written.
        """
        self.is_local = "://" not in uri
        if not self.is_local and not uri.startswith("s3://"):
            raise StoreError(f"store {uri!r}: only a folder or s3://bucket/prefix is allowed")
        self.uri = str(Path(uri).expanduser().resolve()) if self.is_local else uri.rstrip("/")
        self._verified: set[str] = set()
        with self._explained("open"):
            self._fs, self._root = _filesystem(self.uri, self.is_local)
            if self.is_local:
                self._fs.makedirs(self._root, exist_ok=True)
                _require_writable(Path(self._root))
            else:
                self._fs.pipe_file(f"{self._root}/.dr-irl-store", b"1\n")

    def ref(self, stage: str, fingerprint: str) -> ArtifactRef:
        """Return the reference of an artifact, whether or not it exists yet."""
        return ArtifactRef(stage=stage, fingerprint=fingerprint, uri=f"{self.uri}/{_key(stage, fingerprint)}")

    def has(self, ref: ArtifactRef) -> bool:
        """Tell whether an artifact exists whole; a damaged one is moved aside, logged, and absent."""
        try:
            self.fetch(ref)
        except CorruptArtifactError as error:
            self._quarantine(ref, str(error))
            return False
        except FileNotFoundError:
            return False
        return True

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Read an artifact's manifest.

        Raises:
            FileNotFoundError: there is no such artifact.
            CorruptArtifactError: the manifest does not parse.
            StoreError: it was written by a newer version.
        """
        path = f"{self._path(ref)}/{MANIFEST_NAME}"
        with self._explained("read"):
            if not self._fs.exists(path):
                raise FileNotFoundError(path)
            text = self._fs.cat_file(path)
        try:
            manifest = Manifest.model_validate_json(text)
        except ValidationError as error:
            raise CorruptArtifactError(f"{ref.uri}: its {MANIFEST_NAME} does not parse") from error
        if manifest.schema_version > SCHEMA_VERSION:
            raise StoreError(
                f"{ref.uri}: manifest version {manifest.schema_version}, and this dr-irl reads up to "
                f"{SCHEMA_VERSION}; upgrade dr-irl"
            )
        return manifest

    def fetch(self, ref: ArtifactRef) -> Path:
        """Return a local folder with the artifact's files, verified; downloads them where needed.

        Sizes are checked on every call, hashes on the first use in a process.

        Raises:
            FileNotFoundError: there is no such artifact.
            CorruptArtifactError: a file is missing or does not match the manifest.
        """
        manifest = self.manifest(ref)
        folder = Path(self._path(ref)) if self.is_local else self._download(ref, manifest)
        for name, entry in manifest.files.items():
            path = folder / name
            if not path.is_file() or path.stat().st_size != entry.size:
                raise CorruptArtifactError(f"{ref.uri}: {name} is missing or not {entry.size} bytes long")
            if ref.fingerprint not in self._verified and file_sha256(path) != entry.sha256:
                raise CorruptArtifactError(f"{ref.uri}: the contents of {name} do not match its hash")
        self._verified.add(ref.fingerprint)
        return folder

    @contextmanager
    def build(self, identity: Identity) -> Iterator[Path]:
        """Give a scratch folder, and commit what was written into it when the block ends well."""
        parent = Path(self._root) / "staging" if self.is_local else None
        with self._explained("write"):
            if parent is not None:
                parent.mkdir(parents=True, exist_ok=True)
            draft = Draft(Path(tempfile.mkdtemp(prefix=f"{identity.stage.replace('/', '-')}-", dir=parent)))
        try:
            yield draft.folder
            with self._explained("write"):
                self._commit(identity, draft)
        finally:
            shutil.rmtree(draft.folder, ignore_errors=True)

    def write_text(self, key: str, text: str) -> str:
        """Write a small file outside `objects/` (a run record, a report) and return its URI."""
        path = f"{self._root}/{key}"
        with self._explained("write"):
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            if self.is_local:
                _write_atomically(Path(path), text.encode())
            else:
                self._fs.pipe_file(path, text.encode())
        return f"{self.uri}/{key}"

    def read_text(self, key: str) -> str:
        """Read a small file that `write_text` wrote; raises FileNotFoundError where there is none."""
        with self._explained("read"):
            return self._fs.cat_file(f"{self._root}/{key}").decode()

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys of the files directly under `prefix`, sorted."""
        with self._explained("list"):
            self._fs.invalidate_cache()
            if not self._fs.isdir(f"{self._root}/{prefix}"):
                return []
            names = [str(path).rsplit("/", 1)[-1] for path in self._fs.ls(f"{self._root}/{prefix}", detail=False)]
        return sorted(f"{prefix}/{name}" for name in names)

    def _commit(self, identity: Identity, draft: Draft) -> None:
        paths = sorted(path for path in draft.folder.rglob("*") if path.is_file())
        manifest = Manifest(
            stage=identity.stage,
            fingerprint=identity.fingerprint,
            settings=dict(identity.settings),
            inputs=dict(identity.inputs),
            source=dict(identity.source),
            files={path.relative_to(draft.folder).as_posix(): _entry(path) for path in paths},
            wall_seconds=round(time.monotonic() - draft.started, 3),
        )
        target = f"{self._root}/{_key(identity.stage, identity.fingerprint)}"
        text = manifest.model_dump_json(indent=2).encode()
        if self.is_local:
            _publish_folder(draft.folder, Path(target), paths, text)
            return
        for path in paths:
            self._fs.put_file(str(path), f"{target}/{path.relative_to(draft.folder).as_posix()}")
        self._fs.pipe_file(f"{target}/{MANIFEST_NAME}", text)

    def _download(self, ref: ArtifactRef, manifest: Manifest) -> Path:
        folder = cache_folder() / "artifacts" / ref.stage / ref.fingerprint
        for name, entry in manifest.files.items():
            path = folder / name
            if path.is_file() and path.stat().st_size == entry.size and file_sha256(path) == entry.sha256:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
            with self._explained("read"):
                self._fs.get_file(f"{self._path(ref)}/{name}", str(aside))
            aside.replace(path)
        return folder

    def _quarantine(self, ref: ArtifactRef, reason: str) -> None:
        aside = f"{self._root}/damaged/{ref.stage}/{ref.fingerprint}-{int(time.time())}"
        logger.warning("damaged artifact moved aside to %s and rebuilt: %s", aside, reason)
        with self._explained("write"):
            self._fs.makedirs(aside.rsplit("/", 1)[0], exist_ok=True)
            self._fs.mv(self._path(ref), aside, recursive=True)

    def _path(self, ref: ArtifactRef) -> str:
        return f"{self._root}/{_key(ref.stage, ref.fingerprint)}"

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            if self.is_local or action in ("read", "list"):
                raise
            raise StoreError(f"cannot {action} the store {self.uri!r}: no such bucket; create it first") from None
        except _FAILURES as error:
            raise StoreError(
                f"cannot {action} the store {self.uri!r}: {error}; check the path, free space, permissions "
                "and, for s3://, endpoint and credentials (AWS_* variables)"
            ) from error


def cache_folder() -> Path:
    """Return the folder of prepared models and downloads: `$DR_IRL_CACHE`, or `~/.cache/dr-irl`."""
    return Path(os.environ.get("DR_IRL_CACHE") or Path.home() / ".cache" / "dr-irl").expanduser()


def _key(stage: str, fingerprint: str) -> str:
    return f"objects/{stage}/{fingerprint}"


def _filesystem(uri: str, is_local: bool) -> tuple[AbstractFileSystem, str]:
    fs, root = url_to_fs(uri, **({} if is_local else _S3_OPTIONS))
    return fs, str(root)


def _require_writable(root: Path) -> None:
    with tempfile.TemporaryFile(dir=root) as probe:
        probe.write(b"0")


def _entry(path: Path) -> FileEntry:
    rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
    return FileEntry(size=path.stat().st_size, sha256=file_sha256(path), rows=rows)


def _publish_folder(staged: Path, target: Path, paths: list[Path], manifest: bytes) -> None:
    """Flush every file, write the manifest last, then rename: readers see all of it or nothing."""
    for path in paths:
        _flush(path)
    (staged / MANIFEST_NAME).write_bytes(manifest)
    _flush(staged / MANIFEST_NAME)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged.chmod(0o755)
    try:
        staged.rename(target)
    except OSError:
        if not (target / MANIFEST_NAME).is_file():
            raise
        logger.info("%s was committed by another run meanwhile; keeping that one", target)
    _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_atomically(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    aside.write_bytes(content)
    _flush(aside)
    aside.replace(path)
