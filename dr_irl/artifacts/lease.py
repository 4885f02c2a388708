"""Leases: two runs that need the same artifact at once build it once.

A lease saves work and guarantees nothing: a holder may be paused for longer than its lease lasts, and then two build.
What is correct then rests on the commit, which is all or nothing and keeps the first.

The holder of `leases/<stage>/<fingerprint>/<generation>.json` rewrites it, with a beat that increases. Whoever waits
takes over by creating the next generation once the file has not changed for as long as a lease lasts, by the waiter's
own clock: clocks of different machines are never compared.

A lease also says what its holder needs of the store: clearing up leaves that alone.
"""

import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread

from pydantic import BaseModel, ConfigDict, Field

from dr_irl.artifacts.backend import Backend
from dr_irl.errors import StoreError

logger = logging.getLogger(__name__)

TTL_SECONDS = 60.0
"""How long a lease lasts after its last beat."""
BEATS_PER_TTL = 4
SETTLE_SECONDS = 0.5
"""How long the put of a rival may take to show, on a server that cannot decide who is first."""
_FIRST_POLL_SECONDS, _LAST_POLL_SECONDS = 0.2, 2.0
_GENERATION = re.compile(r"/(\d{6})\.json$")


class Holder(BaseModel):
    """Who holds a lease, and its heartbeat: the contents of the lease's file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: str
    beat: int
    host: str
    pid: int = Field(gt=0, lt=2**31)
    needs: tuple[str, ...] = ()
    """Fingerprints of artifacts that must not vanish while the lease is held."""

    @classmethod
    def decode(cls, content: bytes) -> "Holder | None":
        """Read the contents of a lease's file; None if it is no holder's, for example half written."""
        try:
            return cls.model_validate_json(content)
        except ValueError:
            return None

    def is_dead(self) -> bool:
        """Tell whether the holder was a process of this machine that has ended."""
        return self.is_here() and not _is_alive(self.pid)

    def is_here(self) -> bool:
        """Tell whether the holder is, or was, a process of this machine."""
        return self.host == socket.gethostname()


@dataclass(frozen=True, slots=True)
class Sighting:
    """A lease's newest file as a waiter saw it, and since when it has looked like that."""

    generation: int
    content: bytes
    since: float


@contextmanager
def hold(
    backend: Backend,
    folder: str,
    *,
    what: str,
    needs: Iterable[str] = (),
    on_wait: Callable[[str], None] | None = None,
    while_waiting: Callable[[], None] | None = None,
    ttl_seconds: float = TTL_SECONDS,
) -> Iterator[None]:
    """Hold the lease of a folder while the block runs; waits while somebody else does.

    Args:
        backend: where the lease lies.
        folder: its key, `leases/<stage>/<fingerprint>`.
        what: happens under the lease, for `on_wait`: "sources is being built".
        needs: the fingerprints of the artifacts that must not vanish meanwhile.
        on_wait: called once, with a sentence that says who holds it.
        while_waiting: called every second or two; what it raises ends the waiting.
        ttl_seconds: how long a lease lasts after its last beat.

    Raises:
        StoreError: it cannot be acquired, because the store cannot be read or written.
    """
    mine = Holder(
        token=uuid.uuid4().hex, beat=0, host=socket.gethostname(), pid=os.getpid(), needs=tuple(sorted(set(needs)))
    )
    wait = _Wait(on_wait, while_waiting, what)
    generation = _acquire(backend, folder, mine, wait, ttl_seconds)
    released = Event()
    key = _key(folder, generation)
    beating = Thread(target=_beat, args=(released, backend, key, mine, ttl_seconds), daemon=True, name=f"lease {key}")
    beating.start()
    try:
        yield
    finally:
        released.set()
        beating.join(timeout=ttl_seconds)
        _release(backend, folder, generation)


def wait_while_held(
    backend: Backend,
    folder: str,
    *,
    what: str,
    on_wait: Callable[[str], None] | None = None,
    while_waiting: Callable[[], None] | None = None,
    ttl_seconds: float = TTL_SECONDS,
) -> None:
    """Return when nobody holds the lease of a folder; the arguments are those of `hold`."""
    wait = _Wait(on_wait, while_waiting, what)
    seen: Sighting | None = None
    while (seen := _look(backend, folder, seen)) is not None and not _is_over(seen, ttl_seconds):
        wait.tell(seen)
        wait.pause()


def _generation_of(key: str) -> int | None:
    """Return the generation of a lease's file, or None if the key is that of another file."""
    match = _GENERATION.search(key)
    return None if match is None else int(match[1])


@dataclass(slots=True)
class _Wait:
    """Whom to tell about waiting, and how long the next pause is."""

    on_wait: Callable[[str], None] | None
    while_waiting: Callable[[], None] | None
    what: str
    seconds: float = _FIRST_POLL_SECONDS

    def tell(self, seen: Sighting) -> None:
        if self.on_wait is not None:
            self.on_wait(_waiting_for(self.what, seen))
            self.on_wait = None

    def pause(self) -> None:
        if self.while_waiting is not None:
            self.while_waiting()
        time.sleep(self.seconds)
        self.seconds = min(self.seconds * 1.5, _LAST_POLL_SECONDS)


def _acquire(backend: Backend, folder: str, mine: Holder, wait: _Wait, ttl_seconds: float) -> int:
    seen: Sighting | None = None
    while True:
        seen = _look(backend, folder, seen)
        if seen is None or _is_over(seen, ttl_seconds):
            generation = 1 if seen is None else seen.generation + 1
            if backend.create(_key(folder, generation), _encode(mine), settle_seconds=SETTLE_SECONDS):
                return generation
        else:
            wait.tell(seen)
        wait.pause()


def _look(backend: Backend, folder: str, before: Sighting | None) -> Sighting | None:
    generations = [number for key in backend.files(folder) if (number := _generation_of(key)) is not None]
    if not generations:
        return None
    generation = max(generations)
    content = backend.read_many([_key(folder, generation)]).get(_key(folder, generation))
    if content is None:  # released since it was listed
        return None
    if before is not None and (before.generation, before.content) == (generation, content):
        return before
    return Sighting(generation, content, time.monotonic())


def _is_over(seen: Sighting, ttl_seconds: float) -> bool:
    holder = Holder.decode(seen.content)
    return time.monotonic() - seen.since > ttl_seconds or (holder is not None and holder.is_dead())


def _waiting_for(what: str, seen: Sighting) -> str:
    holder = Holder.decode(seen.content)
    who = "another run" if holder is None else f"process {holder.pid} on {holder.host}"
    return f"{what} by {who}; waiting for it"


def _beat(released: Event, backend: Backend, key: str, mine: Holder, ttl_seconds: float) -> None:
    warned = False
    beat = 0
    while not released.wait(ttl_seconds / BEATS_PER_TTL):
        beat += 1
        try:
            current = Holder.decode(backend.read_many([key]).get(key, b""))
            if current is None or current.token != mine.token:
                logger.warning("the lease %s was taken over; the artifact may be built twice", key)
                return
            if released.is_set():
                return
            backend.write(key, _encode(mine.model_copy(update={"beat": beat})))
        except StoreError as error:
            if not warned:
                logger.warning("the lease %s cannot be renewed, the artifact may be built twice: %s", key, error)
            warned = True


def _release(backend: Backend, folder: str, generation: int) -> None:
    try:
        ours = [key for key in backend.files(folder) if (number := _generation_of(key)) and number <= generation]
        backend.delete(sorted(ours))
    except StoreError as error:  # what was built is committed by now, and the lease ends by itself
        logger.warning("the lease %s cannot be given back, others wait until it ends: %s", folder, error)


def _encode(holder: Holder) -> bytes:
    return holder.model_dump_json().encode()


def _key(folder: str, generation: int) -> str:
    return f"{folder}/{generation:06d}.json"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
