"""Claims the files that people drop below a store's `inbox/`: each is accepted once, refused with a reason, or left.

To accept is to keep the contents under their hash, then to enter them in the ledger, then to delete the original. Each
step can be repeated without harm: who is killed in between loses nothing, and two who claim at once claim one thing.
What cannot be used goes to `inbox/refused/`, with a sentence beside it that says why.
"""

import hashlib
import json
import logging
import re
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dr_irl.artifacts.backend import FileStat
from dr_irl.artifacts.explain import explained
from dr_irl.artifacts.keys import ACCEPTED, INBOX
from dr_irl.artifacts.store import Store
from dr_irl.demonstrations.ledger import Accepted, enter, next_number, read_ledger
from dr_irl.demonstrations.parse import parse_examples
from dr_irl.errors import DataError, StoreError
from dr_irl.tables.formats import format_of, whole_suffix
from dr_irl.tables.packed import unpacked
from dr_irl.tables.reading import MOST_BYTES

logger = logging.getLogger(__name__)

REFUSED = f"{INBOX}/refused"

_UNFINISHED_SUFFIXES = (".part", ".partial", ".filepart", ".tmp", ".crdownload")
"""Names that programs give to a file while they write it."""
_PARQUET_END = b"PAR1"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Limits:
    """Which files are accepted."""

    max_prompt_characters: int
    max_bad_rows: float
    """Share of unusable rows above which a file is refused."""
    settle_seconds: float = 30.0
    """A file of a folder that changed since is left: somebody may be writing it. Objects appear whole."""
    give_up_seconds: float = 24 * 3600.0
    """A file of a folder that ends in mid-row is left until it has not changed for this long, then refused."""


@dataclass(slots=True)
class Claim:
    """What became of the files in the inbox."""

    accepted: list[Accepted] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    """Names of files whose very contents were accepted before."""
    refused: dict[str, str] = field(default_factory=dict)
    """Name -> why; no word of what the file says."""
    left: dict[str, str] = field(default_factory=dict)
    """Name -> why it is left for the next time."""


def claim_inbox(store: Store, limits: Limits) -> Claim:
    """Claim every file below `inbox/` that is whole.

    Raises:
        StoreError: the store cannot be read or written.
    """
    if store.is_local:
        _free_the_place_of_refused(Path(store.uri, REFUSED))
    claimer = _Claimer(store, limits)
    for key, stat in sorted(store.backend.files(INBOX).items()):
        if not _is_ignored(key):
            claimer.take(key, stat)
    claimer.clear()
    return claimer.claim


def _free_the_place_of_refused(place: Path) -> None:
    """Rename what somebody dropped under the name of the folder for refused files; a link would lead them elsewhere."""
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        aside = place.with_name(f"{place.name}-{uuid.uuid4().hex[:8]}")
        with explained("write", str(place.parent)):
            place.rename(aside)
        logger.warning("%s was in the way of the folder for refused files and is %s now", place, aside.name)


def _is_ignored(key: str) -> bool:
    hidden = any(part.startswith(".") and part not in (".", "..") for part in key.split("/"))
    return hidden or key.startswith(f"{REFUSED}/")


class _Claimer:
    """Goes through an inbox once."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.claim = Claim()
        self._backend, self._limits = store.backend, limits
        self._settle, self._give_up = (limits.settle_seconds, limits.give_up_seconds) if store.is_local else (0.0, 0.0)
        self._ledger = {entry.sha256: entry for entry in read_ledger(store.backend)}
        self._kept = store.backend.files(ACCEPTED)
        self._done: dict[str, FileStat] = {}

    def take(self, key: str, stat: FileStat) -> None:
        """Accept, refuse or leave one file."""
        name = _readable(key)
        # A clock may have been set back since: then a file can be younger than now by any number of seconds.
        age = abs(time.time() - stat.modified)
        if why := _in_the_way(key) or _unfit(stat) or _young(age, self._settle):
            self.claim.left[name] = why
            return
        try:
            content = self._backend.read_foreign(key)
        except FileNotFoundError:  # another run claimed it meanwhile
            return
        except StoreError as error:
            self.claim.left[name] = str(error)
            return
        self._judge(key, stat, content, age)

    def _judge(self, key: str, stat: FileStat, content: bytes, age: float) -> None:
        name, unfinished = _readable(key), _unfinished(key, content)
        if len(content) != stat.size:
            self.claim.left[name] = "it changed while it was read"
        elif hashlib.sha256(content).hexdigest() in self._ledger:
            self.claim.repeated.append(name)
            self._done[key] = stat
        elif unfinished and age < self._give_up:
            self.claim.left[name] = f"{unfinished}: somebody may be writing it"
        else:
            self._decide(name, content, unfinished)
            self._done[key] = stat

    def _decide(self, name: str, content: bytes, unfinished: str | None) -> None:
        limits = self._limits
        try:
            if unfinished:
                raise DataError(f"source {name!r}: {unfinished}; allowed is a whole file; drop it again")
            parsed = parse_examples(
                name,
                content,
                max_prompt_characters=limits.max_prompt_characters,
                max_bad_rows=limits.max_bad_rows,
            )
        except DataError as error:
            self._refuse(name, content, str(error))
        else:
            self._accept(name, content, len(parsed.examples))

    def _accept(self, name: str, content: bytes, rows: int) -> None:
        entry = Accepted(
            number=next_number(list(self._ledger.values())),
            sha256=hashlib.sha256(content).hexdigest(),
            suffix=whole_suffix(name),
            name=name,
            rows=rows,
        )
        if entry.key not in self._kept:
            self._backend.write(entry.key, content)
        first = enter(self._backend, entry)
        self._ledger[entry.sha256] = entry
        if first:
            self.claim.accepted.append(entry)
        else:
            self.claim.repeated.append(name)

    def _refuse(self, name: str, content: bytes, reason: str) -> None:
        # The hash keeps apart what was refused under one name at different times.
        plain = _UNSAFE.sub("_", PurePosixPath(name).name)[-_NAME_CHARACTERS:]
        target = f"{REFUSED}/{hashlib.sha256(content).hexdigest()[:12]}-{plain}"
        self._backend.write(target, content)
        self._backend.write(f"{target}.reason.txt", f"{reason}\n".encode())
        self.claim.refused[name] = reason

    def clear(self) -> None:
        """Delete what was claimed, but for what has changed since: the next run claims its new contents."""
        if not self._done:
            return
        seen = self._backend.files(INBOX)
        self._backend.delete([key for key, stat in self._done.items() if seen.get(key) == stat])
        changed = [key for key, stat in self._done.items() if seen.get(key, stat) != stat]
        self.claim.left |= {_readable(key): "it changed while it was claimed" for key in changed}


def _readable(key: str) -> str:
    """Return a file's name below the inbox, as text that any file can hold."""
    return key.removeprefix(f"{INBOX}/").encode("utf-8", "backslashreplace").decode()


def _in_the_way(key: str) -> str | None:
    if any(part in ("", ".", "..") for part in key.split("/")):
        return "a part of its name is empty, '.' or '..': rename it"
    if key.lower().endswith(_UNFINISHED_SUFFIXES):
        return f"its name ends in {PurePosixPath(key).suffix!r}: somebody may be writing it"
    return None


def _unfit(stat: FileStat) -> str | None:
    if not stat.regular:
        return "it is a link, a pipe or a device: drop the file itself"
    if stat.size > MOST_BYTES:
        return f"it is larger than {MOST_BYTES >> 30} GiB: split it"
    return None


def _young(age: float, settle: float) -> str | None:
    return f"it changed {age:.0f} s ago, less than {settle:.0f} s: somebody may be writing it" if age < settle else None


def _unfinished(key: str, content: bytes) -> str | None:
    """Say how a file ends too early, if it does and its format can tell."""
    if not content:
        return "it is empty"
    try:
        content = unpacked(key, content)
    except DataError:
        return "it cannot be unpacked, so it may be cut off"
    suffix = format_of(key)
    if suffix == ".parquet" and not content.endswith(_PARQUET_END):
        return "it has no Parquet footer"
    if suffix == ".jsonl" and not _is_json(content.rpartition(b"\n")[2].strip() or b"{}"):
        return "its last line is cut off"
    if suffix == ".csv" and not content.endswith((b"\n", b"\r")):
        return "its last line has no end, so it may be cut off"
    return None


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
