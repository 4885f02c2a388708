"""Looking after a store: what is damaged, what nothing needs any more, what an artifact was made from."""

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from dr_irl.artifacts.backend import Backend, FileStat
from dr_irl.artifacts.in_use import InUse, in_use
from dr_irl.artifacts.keys import CHECKPOINTS, DAMAGED, LEASES, RESULTS, STAGING, object_key
from dr_irl.artifacts.manifest import ArtifactRef, FileEntry, Manifest
from dr_irl.artifacts.retry import until_sound
from dr_irl.artifacts.store import Store
from dr_irl.artifacts.transfer import require_sizes
from dr_irl.errors import CorruptArtifactError

Kind = Literal["artifact", "staging", "damaged", "checkpoint", "lease", "result"]

_COPY = re.compile(r"-[0-9a-f]{8}$")
_LOOK_AGAIN_AFTER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that can be deleted."""

    kind: Kind
    key: str
    """A file, or a folder with all that is in it, below the store's root."""
    bytes: int
    modified: float
    """Seconds since 1970 when the newest of its files was written, by the clock of whoever keeps the store."""
    ref: ArtifactRef | None = None
    """The artifact, where it is one."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """What nothing needs any more."""

    items: tuple[Leftover, ...]

    @property
    def bytes(self) -> int:
        """Bytes that deleting it would free."""
        return sum(item.bytes for item in self.items)


@dataclass(frozen=True, slots=True)
class Lineage:
    """What an artifact was made from, and what that was made from."""

    fingerprint: str
    ref: ArtifactRef | None
    """None where no artifact of the store has the fingerprint: it is a content hash, or was removed."""
    inputs: Mapping[str, "Lineage"]
    """Role -> input."""


def verify(store: Store) -> Iterator[tuple[ArtifactRef, str | None]]:
    """Hash every file of every artifact where it lies, and give each artifact with what is wrong with it, or None.

    Nothing is moved or deleted.
    """
    refs = store.refs()
    for ref, manifest in store.manifests(refs).items():
        yield ref, str(manifest) if isinstance(manifest, CorruptArtifactError) else _problem(store, ref, manifest)


def garbage(store: Store, roots: Iterable[ArtifactRef], used: InUse, *, min_age_seconds: float) -> Garbage:
    """Find what no root was made from, and what ended runs left behind.

    Args:
        store: the store.
        roots: the artifacts to keep, with all they were made from.
        used: what runs need that are not over, read *before* the roots: a run that ends meanwhile becomes a root
            before it lets go of what it needs.
        min_age_seconds: nothing younger is garbage.

    Raises:
        CorruptArtifactError: an artifact to keep is damaged, so what it was made from is not known.
    """
    refs = store.refs()
    kept = _reached(store, refs, {root.fingerprint for root in roots} | used.fingerprints)
    found = [_artifact(store, ref) for ref in refs if ref not in kept]
    found += _trees(store, "staging", STAGING, depth=2)
    found += _trees(store, "damaged", DAMAGED, depth=None)
    found += _files(store, "checkpoint", CHECKPOINTS)
    found += _files(store, "lease", LEASES)
    results = {f"{RESULTS}/{ref.stage}/{ref.fingerprint}" for ref in kept}
    found += [result for result in _files(store, "result", RESULTS) if result.key not in results]
    latest = used.now - min_age_seconds
    return Garbage(tuple(item for item in found if item.modified <= latest and not used.covers(item.key)))


def collect(store: Store, found: Garbage) -> None:
    """Delete what `garbage` found and what no run has come to need since; to be called while `clearing`.

    Who needs what is read again every second: this process may have been stopped for longer than its lease lasts.

    Raises:
        StoreError: the store cannot be written.
    """
    used, read_at = in_use(store.backend), time.monotonic()
    for item in found.items:
        if time.monotonic() - read_at > _LOOK_AGAIN_AFTER_SECONDS:
            used, read_at = in_use(store.backend), time.monotonic()
        if used.covers(item.key):
            continue
        if item.ref is not None:
            store.remove(item.ref)
        elif store.backend.files(item.key):
            store.backend.delete_tree(item.key)
        else:
            store.backend.delete([item.key])


def lineage(store: Store, ref: ArtifactRef) -> Lineage:
    """Return the tree of what an artifact was made from.

    Raises:
        FileNotFoundError: there is no such artifact.
        CorruptArtifactError: the manifest of one of them does not parse.
    """
    by_fingerprint = {other.fingerprint: other for other in store.refs()}
    known: dict[str, Lineage] = {}

    def trace(fingerprint: str) -> Lineage:
        if fingerprint not in known:
            found = by_fingerprint.get(fingerprint)
            inputs = {} if found is None else store.manifest(found).inputs
            known[fingerprint] = Lineage(fingerprint, found, {role: trace(name) for role, name in inputs.items()})
        return known[fingerprint]

    inputs = store.manifest(ref).inputs
    return Lineage(ref.fingerprint, ref, {role: trace(name) for role, name in inputs.items()})


def _problem(store: Store, ref: ArtifactRef, manifest: Manifest) -> str | None:
    prefix = object_key(ref.stage, ref.fingerprint)
    try:
        require_sizes(store.backend.files(prefix), prefix, manifest.files)
        for name, entry in manifest.files.items():
            _hash_in_place(store.backend, f"{prefix}/{name}", entry)
    except CorruptArtifactError as error:
        return str(error)
    except FileNotFoundError as error:
        return f"a file vanished while it was read: {error}"
    return None


def _hash_in_place(backend: Backend, key: str, entry: FileEntry) -> None:
    def read() -> str | None:
        got = backend.digest(key)
        return got.sha256 if got.size == entry.size else None

    def fault(sha256: str) -> str | None:
        return None if sha256 == entry.sha256 else f"the contents of {key} do not match its hash"

    until_sound(f"{backend.uri}/{key}", read, fault)


def _reached(store: Store, refs: Iterable[ArtifactRef], fingerprints: set[str]) -> set[ArtifactRef]:
    """Follow the inputs of every root; they are named by fingerprint only, whatever their stage."""
    by_fingerprint: dict[str, list[ArtifactRef]] = {}
    for ref in refs:
        by_fingerprint.setdefault(ref.fingerprint, []).append(ref)
    kept: set[ArtifactRef] = set()
    while fingerprints:
        level = [ref for each in fingerprints for ref in by_fingerprint.get(each, []) if ref not in kept]
        kept.update(level)
        fingerprints = set()
        for manifest in store.manifests(level).values():
            if isinstance(manifest, CorruptArtifactError):
                raise CorruptArtifactError(
                    f"{manifest}; what it was made from is not known, so nothing is garbage for certain: run again to "
                    "rebuild it, or leave out the run that needs it"
                ) from manifest
            fingerprints.update(manifest.inputs.values())
    return kept


def _artifact(store: Store, ref: ArtifactRef) -> Leftover:
    key = object_key(ref.stage, ref.fingerprint)
    return _leftover("artifact", key, store.backend.files(key).values(), ref)


def _trees(store: Store, kind: Kind, top: str, *, depth: int | None) -> list[Leftover]:
    """Group the files below a top-level folder by their first parts, or by the artifact that they were."""
    groups: dict[str, list[FileStat]] = {}
    for key, stat in store.backend.files(top).items():
        parts = key.split("/")
        cut = depth if depth is not None else _copy_depth(parts)
        groups.setdefault("/".join(parts[:cut]), []).append(stat)
    return [_leftover(kind, key, stats) for key, stats in sorted(groups.items())]


def _copy_depth(parts: list[str]) -> int:
    """Return how many parts of a damaged copy's key name the copy: up to `<fingerprint>-<8 hex digits>`."""
    return next((n for n, part in enumerate(parts, 1) if _COPY.search(part)), len(parts))


def _files(store: Store, kind: Kind, top: str) -> list[Leftover]:
    return [_leftover(kind, key, [stat]) for key, stat in sorted(store.backend.files(top).items())]


def _leftover(kind: Kind, key: str, stats: Iterable[FileStat], ref: ArtifactRef | None = None) -> Leftover:
    seen = list(stats)
    newest = max((stat.modified for stat in seen), default=0.0)
    return Leftover(kind, key, sum(stat.size for stat in seen), newest, ref)
