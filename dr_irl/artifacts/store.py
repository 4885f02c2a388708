"""The artifact store: one interface over a folder and an `s3://bucket/prefix`."""

import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError, ClientError

from dr_irl.artifacts.filesystem import (
    is_full_disk,
    open_filesystem,
    publish_folder,
    require_plain_key,
    write_atomically,
)
from dr_irl.artifacts.fingerprint import file_sha256
from dr_irl.artifacts.manifest import MANIFEST_NAME, ArtifactRef, FileEntry, Manifest, parse_manifest
from dr_irl.errors import CorruptArtifactError, StoreError

logger = logging.getLogger(__name__)

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
            self._fs, self._root = open_filesystem(self.uri, is_local=self.is_local)

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
            CorruptArtifactError: the manifest does not parse, or is another artifact's.
            StoreError: it was written by a newer version.
        """
        path = f"{self._path(ref)}/{MANIFEST_NAME}"
        with self._explained("read"):
            if not self._fs.exists(path):
                raise FileNotFoundError(path)
            text = self._fs.cat_file(path)
        manifest = parse_manifest(text, ref.uri)
        if (manifest.stage, manifest.fingerprint) != (ref.stage, ref.fingerprint):
            raise CorruptArtifactError(f"{ref.uri}: its manifest is that of {manifest.stage} {manifest.fingerprint}")
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
        with self._explained("read"):
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
        """Give a scratch folder, and commit what was written into it when the block ends well.

        Raises:
            StoreError: it cannot be written, or the disk is full.
        """
        key = _key(identity.stage, identity.fingerprint)
        parent = Path(self._root) / "staging" if self.is_local else None
        with self._explained("write"):
            if parent is not None:
                parent.mkdir(parents=True, exist_ok=True)
            draft = Draft(Path(tempfile.mkdtemp(prefix=f"{identity.stage.replace('/', '-')}-", dir=parent)))
        try:
            yield draft.folder
            with self._explained("write"):
                self._commit(identity, draft, f"{self._root}/{key}")
        except Exception as error:
            if is_full_disk(error) and not isinstance(error, StoreError):
                raise StoreError(f"no space is left on the disk of {draft.folder.parent}; free some") from error
            raise
        finally:
            shutil.rmtree(draft.folder, ignore_errors=True)

    def write_text(self, key: str, text: str) -> str:
        """Write a small file outside `objects/` (a run record, a report) and return its URI."""
        path = f"{self._root}/{require_plain_key(key)}"
        with self._explained("write"):
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            if self.is_local:
                write_atomically(Path(path), text.encode())
            else:
                self._fs.pipe_file(path, text.encode())
        return f"{self.uri}/{key}"

    def read_text(self, key: str) -> str:
        """Read a small file that `write_text` wrote; raises FileNotFoundError where there is none."""
        with self._explained("read"):
            content = self._fs.cat_file(f"{self._root}/{require_plain_key(key)}")
        return content if isinstance(content, str) else content.decode()

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys of the files directly under `prefix`, sorted."""
        folder = f"{self._root}/{require_plain_key(prefix)}"
        with self._explained("list"):
            if not self._fs.isdir(folder):
                return []
            entries: list[dict[str, Any]] = self._fs.ls(folder, detail=True)
        names = [str(entry["name"]).rsplit("/", 1)[-1] for entry in entries if entry["type"] == "file"]
        return sorted(f"{prefix}/{name}" for name in names if name and not name.startswith("."))

    def _commit(self, identity: Identity, draft: Draft, target: str) -> None:
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
        text = manifest.model_dump_json(indent=2).encode()
        if self.is_local:
            leftovers = Path(self._aside(self.ref(identity.stage, identity.fingerprint)))
            publish_folder(draft.folder, Path(target), (MANIFEST_NAME, text), leftovers=leftovers)
            return
        for path in paths:
            self._fs.put_file(str(path), f"{target}/{path.relative_to(draft.folder).as_posix()}")
        self._fs.pipe_file(f"{target}/{MANIFEST_NAME}", text)

    def _download(self, ref: ArtifactRef, manifest: Manifest) -> Path:
        folder = cache_folder() / "artifacts" / ref.stage / ref.fingerprint
        for name, entry in manifest.files.items():
            path = folder / name
            known = ref.fingerprint in self._verified
            if path.is_file() and path.stat().st_size == entry.size and (known or file_sha256(path) == entry.sha256):
                continue
            with self._explained("read"):
                path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
            try:
                with self._explained("read"):
                    self._fs.get_file(f"{self._path(ref)}/{name}", str(aside))
                    aside.replace(path)
            except FileNotFoundError:
                raise CorruptArtifactError(f"{ref.uri}: {name} is missing") from None
            finally:
                aside.unlink(missing_ok=True)
        return folder

    def _quarantine(self, ref: ArtifactRef, reason: str) -> None:
        self._verified.discard(ref.fingerprint)
        aside = self._aside(ref)
        with self._explained("write"):
            self._fs.makedirs(aside.rsplit("/", 1)[0], exist_ok=True)
            with suppress(FileNotFoundError):  # another run moved it meanwhile
                self._fs.mv(self._path(ref), aside, recursive=True)
        logger.warning("damaged artifact moved aside to %s and rebuilt: %s", aside, reason)

    def _aside(self, ref: ArtifactRef) -> str:
        return f"{self._root}/damaged/{ref.stage}/{ref.fingerprint}-{uuid.uuid4().hex[:8]}"

    def _path(self, ref: ArtifactRef) -> str:
        return f"{self._root}/{_key(ref.stage, ref.fingerprint)}"

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            if isinstance(error, FileNotFoundError):
                if action in ("read", "list"):
                    raise
                if not self.is_local:
                    raise StoreError(f"cannot {action} the store {self.uri!r}: no such bucket; create it") from None
            raise StoreError(
                f"cannot {action} the store {self.uri!r}: {str(error).rstrip('.')}; check the path, free space, "
                "permissions and, for s3://, endpoint and credentials (AWS_* variables)"
            ) from error


def cache_folder() -> Path:
    """Return the folder of prepared models and downloads: `$DR_IRL_CACHE`, or `~/.cache/dr-irl`."""
    return Path(os.environ.get("DR_IRL_CACHE") or Path.home() / ".cache" / "dr-irl").expanduser()


def _key(stage: str, fingerprint: str) -> str:
    return require_plain_key(f"objects/{stage}/{fingerprint}")


def _entry(path: Path) -> FileEntry:
    rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
    return FileEntry(size=path.stat().st_size, sha256=file_sha256(path), rows=rows)
