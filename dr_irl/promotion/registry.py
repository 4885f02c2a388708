"""Published models of a store: versions that never change, and which of them is the champion.

models/<name>/<version>/...              the files of a version
models/<name>/<version>/version.json     their hashes, and where they come from; written last: without it, no version
models/<name>/history/<generation>.json  every move of the champion, numbered from 1
models/<name>/champion.json              the newest move, in a fixed place, for readers that know nothing of the history
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dr_irl.artifacts import lease
from dr_irl.artifacts.cache import cache_folder
from dr_irl.artifacts.fingerprint import file_sha256
from dr_irl.artifacts.keys import LEASES
from dr_irl.artifacts.manifest import FileEntry
from dr_irl.artifacts.retry import until_sound
from dr_irl.artifacts.store import Store
from dr_irl.artifacts.transfer import require_sizes
from dr_irl.errors import CorruptArtifactError, StoreError, UserError
from dr_irl.promotion.published import (
    ADAPTER,
    MODELS,
    VERSION_FILE,
    Move,
    Version,
    encoded,
    is_name,
    is_version,
    require_name,
    version_key,
)
from dr_irl.promotion.shelf import Shelf

logger = logging.getLogger(__name__)


class Registry:
    """The published models of a store."""

    def __init__(self, store: Store) -> None:
        """Name the store; nothing is read yet."""
        self._backend, self._uri = store.backend, store.uri

    def names(self) -> list[str]:
        """Return the names under which anything was published."""
        return sorted({key.split("/")[1] for key in self._backend.files(MODELS) if key.endswith(f"/{VERSION_FILE}")})

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, oldest first."""
        return self._shelf(name).versions

    def version(self, name: str, version: str) -> Version:
        """Read what a version says of itself.

        Raises:
            UserError: there is no such version.
            CorruptArtifactError: it is damaged.
        """
        return self._version(self._shelf(name), version)

    def champion(self, name: str) -> Move | None:
        """Return the move that made the present champion; None before there is one.

        Raises:
            CorruptArtifactError: there was one, and nothing sound is left to tell which.
        """
        return self._shelf(name).champion()

    def uri(self, name: str, version: str) -> str:
        """Return where a version lies."""
        return f"{self._uri}/{version_key(name, version)}"

    def adapter_uri(self, model: str) -> str | None:
        """Return where the adapter of `NAME` (its champion) or `NAME/VERSION` lies; None if no model has that name.

        Raises:
            UserError: the model is there, but has no champion or no such version.
        """
        name, _, version = model.partition("/")
        if not is_name(name) or not (shelf := self._shelf(name)).versions:
            return None
        if not version:
            if (champion := shelf.champion()) is None:
                raise UserError(f"model {name!r} has no champion; name a version: {', '.join(shelf.versions)}")
            version = champion.version
        return f"{self.uri(name, self._version(shelf, version).version)}/{ADAPTER}"

    def publish(self, name: str, version: str, folder: Path, about: Mapping[str, Any]) -> Version:
        """Publish the files of a folder as a version; the champion stays who it is.

        A version that is there already with the same files is returned as it is.

        Raises:
            StoreError: it is there with other files; versions never change.
        """
        if not is_version(version):
            raise UserError(f"{version!r} is no version; versions look like 20261130-030000-1a2b3c4d")
        prefix, paths = version_key(require_name(name), version), [path for path in folder.rglob("*") if path.is_file()]
        files = {
            path.relative_to(folder).as_posix(): FileEntry(size=path.stat().st_size, sha256=file_sha256(path))
            for path in sorted(paths)
        }
        mine = Version(name=name, version=version, about=dict(about), files=files)
        # One after the other: the files of two would lie in one folder.
        publishing = f"{name} {version} is being published"
        with lease.hold(self._backend, f"{LEASES}/.publishing/{name}/{version}", what=publishing, on_wait=logger.info):
            if version not in self.versions(name):
                for file in files:
                    self._backend.write(f"{prefix}/{file}", (folder / file).read_bytes())
                require_sizes(self._backend.files(prefix), prefix, files)
                if self._backend.create(f"{prefix}/{VERSION_FILE}", encoded(mine)):
                    return mine
        published = self.version(name, version)
        if published.files != files:
            other = [file for file in files | published.files if published.files.get(file) != files.get(file)]
            raise StoreError(
                f"version {version} of {name!r} is published already, with another {', '.join(sorted(other))}; a "
                "version never changes: run again, and the result is a version of its own"
            )
        return published

    def promote(self, name: str, version: str, *, replaces: str | None, run_id: str) -> Move:
        """Make a published version the champion, if the champion is still the one that it was compared with.

        Raises:
            GateError: the champion is another by now.
        """
        shelf = self._shelf(name)
        shelf.require_champion(replaces)
        return shelf.move(self._version(shelf, version).version, replaces=replaces, action="promote", run_id=run_id)

    def rollback(self, name: str, to: str | None = None) -> Move:
        """Make the champion before the present one, or the version that is named, the champion.

        Raises:
            UserError: there is none before, no such version, or it is the champion.
        """
        shelf = self._shelf(name)
        try:
            champion = shelf.champion()
        except CorruptArtifactError:
            if to is None:
                raise
            champion = None
        target = to or _before(shelf, champion)
        if champion and champion.version == target:
            raise UserError(f"version {target} is the champion of {name!r} already")
        self._version(shelf, target)
        return shelf.move(target, replaces=champion.version if champion else None, action="rollback", run_id=None)

    def fetch(self, name: str, version: str) -> Path:
        """Return a local folder with the files of a version, verified.

        Raises:
            CorruptArtifactError: a file is missing or damaged.
        """
        key = version_key(name, version)
        return self._backend.bring(key, self.version(name, version).files, cache_folder() / key, trusted=False)

    def verify(self, name: str, version: str) -> str | None:
        """Hash every file of a version where it lies; returns what is wrong, or None."""
        try:
            for file, entry in self.version(name, version).files.items():
                self._verify_file(f"{version_key(name, version)}/{file}", entry)
        except (CorruptArtifactError, FileNotFoundError) as error:
            return str(error)
        return None

    def _verify_file(self, key: str, entry: FileEntry) -> None:
        until_sound(
            f"{self._uri}/{key}",
            lambda: self._backend.digest(key),
            lambda seen: None if seen == (entry.size, entry.sha256) else f"the contents of {key} do not match its hash",
        )

    def _shelf(self, name: str) -> Shelf:
        return Shelf(self._backend, name)

    def _version(self, shelf: Shelf, version: str) -> Version:
        if version not in shelf.versions:
            listed = ", ".join(shelf.versions[-5:]) or "none yet"
            raise UserError(f"model {shelf.name!r} of store {self._uri!r} has no version {version!r}; it has: {listed}")
        return shelf.read_version(version)


def _before(shelf: Shelf, champion: Move | None) -> str:
    """Return what the champion replaced when it was promoted, not when somebody went back to it."""
    for move in shelf.moves() if champion else ():
        if move.action == "promote" and champion and move.version == champion.version and move.previous:
            return move.previous
    raise UserError(
        f"model {shelf.name!r} had no champion before the present one; dr-irl models {shelf.name} lists all"
    )
