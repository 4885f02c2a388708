"""What of a store belongs to runs that are not over: clearing up leaves it alone, however old it is."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from dr_irl.artifacts.backend import Backend, FileStat
from dr_irl.artifacts.keys import CHECKPOINTS, CLEARING, LEASES, RUNNING, STAGING
from dr_irl.artifacts.lease import TTL_SECONDS, Holder

_DEAD_AFTER_SECONDS = 10 * TTL_SECONDS


@dataclass(frozen=True, slots=True)
class InUse:
    """What live leases say of who needs what."""

    fingerprints: frozenset[str]
    """Of artifacts that a run needs or builds."""
    scratch: tuple[str, ...]
    """How the names of the scratch folders begin in which something is being built."""
    dead: frozenset[str]
    """The keys of leases whose holders ended or fell silent."""
    now: float
    """Seconds since 1970 when they were read, by the clock of whoever keeps the store."""

    def covers(self, key: str) -> bool:
        """Tell whether a file or folder is some run's: its artifact, checkpoint, result or scratch folder."""
        top, _, below = key.partition("/")
        if top == LEASES:
            return key not in self.dead
        if top == STAGING:
            return below.startswith(self.scratch)
        # Beside the checkpoint `<fingerprint>` lie those of its parts, `<fingerprint>-<part>`, and `.failure.json`.
        parts = re.split("[-./]", below) if top == CHECKPOINTS else below.split("/")
        return not self.fingerprints.isdisjoint(parts)


def in_use(backend: Backend) -> InUse:
    """Read every lease.

    A holder on another machine that has been silent for ten times as long as a lease lasts is dead; one on this
    machine only when its process has ended: it may have been stopped for days.
    """
    found = backend.files(LEASES)
    contents, now = backend.read_many(list(found)), _store_time(found)
    fingerprints: set[str] = set()
    scratch: set[str] = set()
    dead: set[str] = set()
    for key, stat in found.items():
        holder = Holder.decode(contents.get(key, b""))
        if _is_dead(holder, now - stat.modified):
            dead.add(key)
            continue
        fingerprints.update(holder.needs if holder else ())
        if not key.startswith((f"{RUNNING}/", f"{CLEARING}/")):
            stage, fingerprint, _ = key.removeprefix(f"{LEASES}/").rsplit("/", 2)
            fingerprints.add(fingerprint)
            scratch.add(f"{stage.replace('/', '-')}-")
    return InUse(frozenset(fingerprints), tuple(sorted(scratch)), frozenset(dead), now)


def forget_dead_runs(backend: Backend) -> None:
    """Delete the leases of runs that were killed: unlike those of builds, nobody takes them over."""
    backend.delete(sorted(key for key in in_use(backend).dead if key.startswith(f"{RUNNING}/")))


def _store_time(leases: Mapping[str, FileStat]) -> float:
    """Return the time by the clock of whoever keeps the files, if somebody holds the right to clear up.

    That one has just written its lease: a clock of this machine that jumped makes nothing look old.
    """
    written = [stat.modified for key, stat in leases.items() if key.startswith(f"{CLEARING}/")]
    return max(written, default=time.time())


def _is_dead(holder: Holder | None, silent_seconds: float) -> bool:
    if holder is not None and holder.is_here():
        return holder.is_dead()
    return silent_seconds > _DEAD_AFTER_SECONDS
