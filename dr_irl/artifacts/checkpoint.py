"""The state of an artifact that is half built: replaced whole, and guarded by a hash."""

import hashlib
import logging

from dr_irl.artifacts.backend import Backend
from dr_irl.artifacts.keys import CHECKPOINTS, require_plain_key

logger = logging.getLogger(__name__)

_DIGEST_LENGTH = 64
_READINGS = 2


class Checkpoint:
    """One blob beside the artifact it is for: 64 hex digits of SHA-256, a newline, the contents."""

    def __init__(self, backend: Backend, stage: str, fingerprint: str) -> None:
        """Name the checkpoint of an artifact; it need not exist."""
        self._backend = backend
        self.key = require_plain_key(f"{CHECKPOINTS}/{stage}/{fingerprint}")
        self._stage, self._fingerprint = stage, fingerprint
        self._parts: list[Checkpoint] = []

    def part(self, name: str) -> "Checkpoint":
        """Return the checkpoint of one part of the artifact; it is deleted with the whole."""
        self._parts.append(Checkpoint(self._backend, self._stage, f"{self._fingerprint}-{name}"))
        return self._parts[-1]

    def read(self) -> bytes | None:
        """Return what was written last; None where there is nothing, or it is damaged, which is logged."""
        for _ in range(_READINGS):  # what was altered on its way is sound the second time
            try:
                stored = self._backend.read(self.key)
            except FileNotFoundError:
                return None
            digest, content = stored[:_DIGEST_LENGTH], stored[_DIGEST_LENGTH + 1 :]
            if hashlib.sha256(content).hexdigest().encode() == digest:
                return content
        logger.warning("the checkpoint %s/%s is damaged; starting without it", self._backend.uri, self.key)
        return None

    def write(self, content: bytes) -> None:
        """Replace the checkpoint: readers see the old one or the new, whole."""
        digest = hashlib.sha256(content).hexdigest().encode()
        self._backend.write(self.key, digest + b"\n" + content)

    def write_failure(self, text: str) -> str:
        """Keep, as JSON beside the checkpoint, what training failed on; returns its URI."""
        self._backend.write(self._failure_key, text.encode())
        return f"{self._backend.uri}/{self._failure_key}"

    def delete(self) -> None:
        """Delete the checkpoint and what lies beside it; it is fine if there is none."""
        self._backend.delete([self.key, self._failure_key])
        for part in self._parts:
            part.delete()

    @property
    def _failure_key(self) -> str:
        return f"{self.key}.failure.json"
