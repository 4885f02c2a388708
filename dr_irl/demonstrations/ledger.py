"""The ledger of the files that came in through a store's inbox: what was accepted, and in which order.

accepted/<sha256>.<suffix>   an accepted file, never changed
accepted/<sha256>.json       its entry
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from dr_irl.artifacts.backend import Backend
from dr_irl.artifacts.keys import ACCEPTED
from dr_irl.artifacts.lease import SETTLE_SECONDS

logger = logging.getLogger(__name__)


class Accepted(BaseModel):
    """One accepted file."""

    model_config = ConfigDict(frozen=True)

    number: PositiveInt
    """Its place among all; no clock decides it. Two that were claimed at once may share one, and stand by hash."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    suffix: str
    name: str
    """What it was called in the inbox."""
    rows: int
    """Rows that can be used."""
    claimed: datetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def key(self) -> str:
        """Where its contents lie in the store."""
        return f"{ACCEPTED}/{self.sha256}{self.suffix}"


def read_ledger(backend: Backend) -> list[Accepted]:
    """Return all accepted files, those first that came first."""
    keys = [key for key in backend.files(ACCEPTED) if key.endswith(".json")]
    entries = {key: _decode(content) for key, content in backend.read_many(keys).items()}
    for key in (key for key, entry in entries.items() if entry is None):
        logger.warning(
            "%s/%s is no entry of a ledger and counts as none; drop its file into the inbox again", backend.uri, key
        )
    return sorted((entry for entry in entries.values() if entry), key=lambda entry: (entry.number, entry.sha256))


def enter(backend: Backend, entry: Accepted) -> bool:
    """Write an entry unless its contents have one; tells whether it is now ours."""
    key, content = f"{ACCEPTED}/{entry.sha256}.json", entry.model_dump_json().encode()
    first = backend.create(key, content, settle_seconds=SETTLE_SECONDS)
    if first or _decode(backend.read(key)) is None:  # or whoever was first was killed while it wrote
        backend.write(key, content)  # flushed, which `create` does not promise
    return first


def next_number(entries: Sequence[Accepted]) -> int:
    """Return the number of the next file."""
    return max((entry.number for entry in entries), default=0) + 1


def _decode(content: bytes) -> Accepted | None:
    try:
        return Accepted.model_validate_json(content)
    except ValueError:
        return None
