"""The artifact store: one interface over a folder and an `s3://bucket/prefix`. Its format is in `docs/artifacts.md`."""

import logging
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from dr_irl.artifacts import lease
from dr_irl.artifacts.cache import cache_folder
from dr_irl.artifacts.checkpoint import Checkpoint
from dr_irl.artifacts.draft import Draft, Identity
from dr_irl.artifacts.explain import explained, is_full_disk
from dr_irl.artifacts.folder import FolderBackend
from dr_irl.artifacts.in_use import forget_dead_runs
from dr_irl.artifacts.keys import (
    CLEARING,
    LEASES,
    MANIFEST_NAME,
    OBJECTS,
    RUNNING,
    STAGING,
    damaged_key,
    manifest_key,
    object_key,
    require_plain_key,
)
from dr_irl.artifacts.manifest import ArtifactRef, Manifest, parse_manifest
from dr_irl.artifacts.marker import open_backend
from dr_irl.artifacts.retry import until_sound
from dr_irl.artifacts.transfer import require_sizes
from dr_irl.errors import CorruptArtifactError, StoreError

logger = logging.getLogger(__name__)

_CLEARING = "the store is being cleared up"


class Store:
    """Content-addressed artifacts under `objects/<stage>/<fingerprint>/`, run records under `runs/`."""

    def __init__(self, uri: str, *, read_only: bool = False) -> None:
        """Open the store at a folder or `s3://bucket/prefix`, and create it if needed.

        Args:
            uri: the place.
            read_only: write nothing when opening: for credentials or mounts that may only read.

        Raises:
            StoreError: it cannot be reached or written, is in use by something else, or is of a newer format.
        """
        self.backend = open_backend(uri, read_only=read_only)
        self.uri = self.backend.uri
        self.is_local = isinstance(self.backend, FolderBackend)
        self._read_only = read_only
        self._verified: set[str] = set()

    def ref(self, stage: str, fingerprint: str) -> ArtifactRef:
        """Return the reference of an artifact, whether or not it exists yet."""
        return ArtifactRef(stage=stage, fingerprint=fingerprint, uri=f"{self.uri}/{object_key(stage, fingerprint)}")

    def has(self, ref: ArtifactRef) -> bool:
        """Tell whether an artifact exists whole; a damaged one is moved aside, logged, and absent.

        On S3 nothing is downloaded: sizes are checked here, contents by `fetch`.
        """
        try:
            if self.is_local:
                self.fetch(ref)
            else:
                with self._condemning(ref) as (prefix, manifest):
                    require_sizes(self.backend.files(prefix), prefix, manifest.files)
        except (CorruptArtifactError, FileNotFoundError):
            return False
        return True

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Read an artifact's manifest.

        Raises:
            FileNotFoundError: there is no such artifact.
            CorruptArtifactError: the manifest does not parse, or is another artifact's.
            StoreError: it was written by a newer version.
        """
        key = manifest_key(ref.stage, ref.fingerprint)
        content = until_sound(f"{ref.uri}/{MANIFEST_NAME}", lambda: self.backend.read(key), lambda c: _fault(c, ref))
        return _parse(content, ref)

    def fetch(self, ref: ArtifactRef) -> Path:
        """Return a local folder with the artifact's files, verified; downloads them where needed.

        Sizes are checked on every call, hashes on the first use in a process. A damaged artifact is moved aside.

        Raises:
            FileNotFoundError: there is no such artifact.
            CorruptArtifactError: a file is missing or does not match the manifest.
            StoreError: it cannot be read.
        """
        cache = cache_folder() / "artifacts" / ref.stage / ref.fingerprint
        with self._condemning(ref) as (prefix, manifest):
            folder = self.backend.bring(prefix, manifest.files, cache, trusted=ref.uri in self._verified)
        self._verified.add(ref.uri)
        return folder

    @contextmanager
    def build(self, identity: Identity, *, replace: bool = False) -> Iterator[Path]:
        """Give a scratch folder, and commit what was written into it when the block ends well.

        Args:
            identity: what is built. If it is committed already when the block ends, that one is kept.
            replace: put the new artifact in its place instead.

        Raises:
            StoreError: it cannot be written, or the disk is full.
        """
        key = object_key(identity.stage, identity.fingerprint)
        draft = Draft(self._scratch(identity.stage.replace("/", "-")))
        try:
            yield draft.folder
            with explained("write", self.uri):
                manifest = draft.manifest(identity)
            self.backend.publish(draft.folder, key, manifest, replace=replace)
            self._verified.discard(f"{self.uri}/{key}")
        except Exception as error:
            if is_full_disk(error) and not isinstance(error, StoreError):
                raise StoreError(f"no space is left on the disk of {draft.folder.parent}; free some") from error
            raise
        finally:
            shutil.rmtree(draft.folder, ignore_errors=True)

    def lease(
        self,
        ref: ArtifactRef,
        on_wait: Callable[[str], None] | None = None,
        *,
        needs: Iterable[ArtifactRef] = (),
        while_waiting: Callable[[], None] | None = None,
        ttl_seconds: float = lease.TTL_SECONDS,
    ) -> AbstractContextManager[None]:
        """Hold the right to build an artifact while a block runs; waits while another run has it.

        Whoever had to wait finds the artifact built, most of the time: ask `has` again. A lease saves work and
        guarantees nothing.

        Args:
            ref: the artifact.
            on_wait: called once, with a sentence that says who builds it now.
            needs: what it is made from, which must not be cleared up meanwhile.
            while_waiting: called every second or two; what it raises ends the waiting.
            ttl_seconds: after how long without a sign of life a builder is taken for dead.
        """
        folder = require_plain_key(f"{LEASES}/{ref.stage}/{ref.fingerprint}")
        return lease.hold(
            self.backend,
            folder,
            what=f"{ref.stage}/{ref.fingerprint} is being built",
            needs=[other.fingerprint for other in needs],
            on_wait=on_wait,
            while_waiting=while_waiting,
            ttl_seconds=ttl_seconds,
        )

    @contextmanager
    def needing(
        self,
        refs: Iterable[ArtifactRef],
        on_wait: Callable[[str], None] | None = None,
        *,
        while_waiting: Callable[[], None] | None = None,
    ) -> Iterator[None]:
        """Keep artifacts while a block runs: what clears up leaves those alone that exist, and those that will.

        Enter it before you ask what exists. If the store is being cleared up, this waits for the end: whoever
        clears up first takes its lease and then looks at who needs what; here it is the other way round.

        Args:
            refs: the artifacts.
            on_wait: called once, with a sentence that says who clears up.
            while_waiting: called every second or two; what it raises ends the waiting.
        """
        what, needs = "a run is under way", [ref.fingerprint for ref in refs]
        forget_dead_runs(self.backend)
        with lease.hold(self.backend, f"{RUNNING}/{uuid.uuid4().hex}", what=what, needs=needs):
            lease.wait_while_held(self.backend, CLEARING, what=_CLEARING, on_wait=on_wait, while_waiting=while_waiting)
            yield

    def clearing(self, on_wait: Callable[[str], None] | None = None) -> AbstractContextManager[None]:
        """Hold the right to delete what nobody needs while a block runs: runs that begin meanwhile wait for its end.

        Args:
            on_wait: called once, with a sentence that says who else clears up.
        """
        return lease.hold(self.backend, CLEARING, what=_CLEARING, on_wait=on_wait)

    def checkpoint(self, ref: ArtifactRef) -> Checkpoint:
        """Return the place for the state of an artifact that is half built."""
        return Checkpoint(self.backend, ref.stage, ref.fingerprint)

    def refs(self, stage_prefix: str = "") -> list[ArtifactRef]:
        """Return all committed artifacts, sorted; those of one stage and its variants if it is named."""
        below = f"{OBJECTS}/{require_plain_key(stage_prefix)}" if stage_prefix else OBJECTS
        folders = {k.removesuffix(f"/{MANIFEST_NAME}") for k in self.backend.files(below) if _is_manifest(k)}
        # A file of an artifact may be called as its manifest is: what lies inside an artifact is no other one.
        outermost = sorted(f for f in folders if not any(f.startswith(f"{other}/") for other in folders))
        return [self.ref(*f.removeprefix(f"{OBJECTS}/").rsplit("/", 1)) for f in outermost]

    def manifests(self, refs: Iterable[ArtifactRef]) -> dict[ArtifactRef, Manifest | CorruptArtifactError]:
        """Read many manifests at once; an artifact that is absent or damaged is an error in its place."""
        wanted = list(refs)
        contents = self.backend.read_many([manifest_key(ref.stage, ref.fingerprint) for ref in wanted])
        return {ref: self._manifest_or_error(ref, contents) for ref in wanted}

    def remove(self, ref: ArtifactRef) -> None:
        """Delete an artifact, its manifest first: nobody takes what is left for whole. It is fine if there is none."""
        self._verified.discard(ref.uri)
        self.backend.delete([manifest_key(ref.stage, ref.fingerprint)])
        self.backend.delete_tree(object_key(ref.stage, ref.fingerprint))

    def write_text(self, key: str, text: str) -> str:
        """Write a small file outside `objects/` (a run record, a report) and return its URI."""
        self.backend.write(require_plain_key(key), text.encode())
        return f"{self.uri}/{key}"

    def read_text(self, key: str) -> str:
        """Read a small file that `write_text` wrote; raises FileNotFoundError where there is none."""
        return self.backend.read(require_plain_key(key)).decode()

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys of the files directly under `prefix`, sorted."""
        depth = len(require_plain_key(prefix)) + 1
        names = [key[depth:] for key in self.backend.files(prefix)]
        return sorted(f"{prefix}/{name}" for name in names if "/" not in name and not name.startswith("."))

    def _scratch(self, name: str) -> Path:
        with explained("write", self.uri):
            parent = Path(self.uri, STAGING) if self.is_local else None
            if parent is not None:
                parent.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))

    @contextmanager
    def _condemning(self, ref: ArtifactRef) -> Iterator[tuple[str, Manifest]]:
        """Give an artifact's key and manifest; move it aside if the block or the manifest finds it damaged."""
        judged: Manifest | None = None
        try:
            judged = self.manifest(ref)
            yield object_key(ref.stage, ref.fingerprint), judged
        except CorruptArtifactError as error:
            reason = f"{ref.uri}: {str(error).removeprefix(f'{ref.uri}: ')}"
            raise CorruptArtifactError(f"{reason}; {self._condemn(ref, judged, reason)}") from error

    def _condemn(self, ref: ArtifactRef, judged: Manifest | None, reason: str) -> str:
        """Move a damaged artifact aside, unless it is another one by now; returns what was done."""
        self._verified.discard(ref.uri)
        if self._read_only:
            return "the store is open for reading only; a run that uses it rebuilds the artifact"
        content = self.backend.read_many([manifest_key(ref.stage, ref.fingerprint)]).values()
        if [None if _fault(each, ref) else _parse(each, ref) for each in content] != [judged]:
            return "another run replaced it meanwhile; run again"
        aside = damaged_key(ref.stage, ref.fingerprint)
        self.backend.move(object_key(ref.stage, ref.fingerprint), aside)
        logger.warning("damaged artifact %s %s moved aside to %s: %s", ref.stage, ref.fingerprint, aside, reason)
        return f"it was moved aside to {self.uri}/{aside}, and running again rebuilds it"

    def _manifest_or_error(self, ref: ArtifactRef, contents: Mapping[str, bytes]) -> Manifest | CorruptArtifactError:
        key = manifest_key(ref.stage, ref.fingerprint)
        try:
            return _parse(contents[key], ref)
        except KeyError:
            return CorruptArtifactError(f"{ref.uri}: there is no such artifact")
        except CorruptArtifactError as error:
            return error


def _is_manifest(key: str) -> bool:
    return key.endswith(f"/{MANIFEST_NAME}")


def _parse(content: bytes, ref: ArtifactRef) -> Manifest:
    manifest = parse_manifest(content, ref.uri)
    if (manifest.stage, manifest.fingerprint) != (ref.stage, ref.fingerprint):
        raise CorruptArtifactError(f"{ref.uri}: its manifest is that of {manifest.stage} {manifest.fingerprint}")
    return manifest


def _fault(content: bytes, ref: ArtifactRef) -> str | None:
    try:
        _parse(content, ref)
    except CorruptArtifactError as error:
        return str(error)
    return None
