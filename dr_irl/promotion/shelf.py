"""One model's versions and the moves of its champion, as a listing of the store shows them.

The champion is moved by creating the next entry of the history, in which one succeeds of two that try at once; then
`champion.json` is replaced whole. The newest sound entry that names a whole version counts, so a pointer that was lost,
cut short or left behind costs a warning and nothing else.
"""

import logging
import re
from collections.abc import Iterator
from typing import Literal

from dr_irl.artifacts.backend import Backend
from dr_irl.artifacts.transfer import require_sizes
from dr_irl.errors import CorruptArtifactError, GateError
from dr_irl.promotion.published import (
    HISTORY,
    MODELS,
    POINTER,
    VERSION_FILE,
    Move,
    Version,
    encoded,
    is_version,
    read_record,
    require_name,
    version_key,
)

logger = logging.getLogger(__name__)

_ENTRY = re.compile(rf"{HISTORY}/(\d{{8}})\.json")
_SETTLE_SECONDS = 1.0
"""Where a server cannot decide which of two moves was first: how long to wait for the other."""


class Shelf:
    """A model's versions and history at one moment."""

    def __init__(self, backend: Backend, name: str) -> None:
        """List what is there.

        Raises:
            UserError: no model can have that name.
        """
        self._backend, self.name = backend, require_name(name)
        self._folder = f"{MODELS}/{name}"
        self._listing = backend.files(self._folder)
        inside = {key.removeprefix(f"{self._folder}/"): key for key in self._listing}
        self.versions = sorted(
            version
            for version, _, file in (key.partition("/") for key in inside)
            if file == VERSION_FILE and is_version(version)
        )
        """Oldest first."""
        self._entries = {int(match[1]): key for name, key in inside.items() if (match := _ENTRY.fullmatch(name))}

    def champion(self) -> Move | None:
        """Return the move that made the present champion; None before there is one.

        Raises:
            CorruptArtifactError: there was one, and nothing sound is left to tell which.
        """
        pointer = self._pointer()
        if pointer and pointer.generation >= max(self._entries, default=0) and self._is_whole(pointer.version):
            return pointer
        for move in self.moves():
            if self._is_whole(move.version):
                logger.warning(
                    "%s of %r is missing, damaged or left behind; by the history its champion is %s, since %s; the "
                    "next promotion or rollback writes it anew",
                    *(POINTER, self.name, move.version, f"{move.at:%Y-%m-%d %H:%M} UTC"),
                )
                return move
        if not self._entries and f"{self._folder}/{POINTER}" not in self._listing:
            return None
        raise CorruptArtifactError(
            f"nothing sound is left that tells the champion of {self.name!r}; choose a version: dr-irl rollback "
            f"{self.name} --to VERSION, one of: {', '.join(self.versions) or 'none'}"
        )

    def moves(self) -> Iterator[Move]:
        """Give the sound entries of the history, newest first; what is damaged is logged."""
        for _, key in sorted(self._entries.items(), reverse=True):
            if move := self._sound(key):
                yield move

    def move(
        self, version: str, *, replaces: str | None, action: Literal["promote", "rollback"], run_id: str | None
    ) -> Move:
        """Make a version the champion.

        Raises:
            GateError: somebody else moved the champion since this shelf was listed.
        """
        pointer = self._pointer()
        newest = max([*self._entries, pointer.generation if pointer else 0])
        move = Move(generation=newest + 1, version=version, previous=replaces, action=action, run_id=run_id)
        entry = f"{self._folder}/{HISTORY}/{move.generation:08d}.json"
        if not self._backend.create(entry, encoded(move), settle_seconds=_SETTLE_SECONDS):
            Shelf(self._backend, self.name).require_champion(replaces)
            raise GateError(f"the champion of {self.name!r} is being moved by somebody else; try again")
        self._point_to(move)
        return move

    def _point_to(self, move: Move) -> None:
        """Write the pointer, and again while the history is ahead of it: another move may write its own before us."""
        newest: Move | None = move
        while newest is not None:
            self._backend.write(f"{self._folder}/{POINTER}", encoded(newest))
            written, newest = newest, next(Shelf(self._backend, self.name).moves(), None)
            if newest is not None and newest.generation <= written.generation:
                return

    def require_champion(self, version: str | None) -> None:
        """Check who the champion is.

        Raises:
            GateError: another than `version`.
        """
        champion = self.champion()
        if (champion.version if champion else None) != version:
            now = f"{champion.version}, since {champion.at:%Y-%m-%d %H:%M:%S} UTC" if champion else "none"
            raise GateError(
                f"the champion of {self.name!r} is no longer {version or 'none'} but {now}; run again: a result is "
                "compared with the present champion, and stages that do not change are taken from the store"
            )

    def read_version(self, version: str) -> Version:
        """Read what a version says of itself.

        Raises:
            CorruptArtifactError: that does not parse, or a file is missing or not of its size.
        """
        key = version_key(self.name, version)
        found = read_record(self._backend, f"{key}/{VERSION_FILE}", Version)
        require_sizes(self._listing, key, found.files)
        return found

    def _is_whole(self, version: str) -> bool:
        if version not in self.versions:
            return False
        try:
            self.read_version(version)
        except CorruptArtifactError as error:
            logger.warning("version %s of %r is damaged: %s", version, self.name, error)
            return False
        return True

    def _pointer(self) -> Move | None:
        key = f"{self._folder}/{POINTER}"
        return self._sound(key) if key in self._listing else None

    def _sound(self, key: str) -> Move | None:
        try:
            return read_record(self._backend, key, Move)
        except CorruptArtifactError as error:
            logger.warning("%s", error)
            return None
