"""Where tests keep the state of a training loop, and kill it."""

from collections.abc import Callable, Mapping
from typing import Any

from dr_irl.snapshot import Snapshot


class KilledError(Exception):
    """Raised where training is killed."""


class Kept:
    """Keeps the latest of every few snapshots as bytes, and stops training once after a step."""

    def __init__(self, stop_after: int | None = None, every: int = 1) -> None:
        self.stop_after, self.every = stop_after, every
        self.data: bytes | None = None
        self.failed: Mapping[str, Any] | None = None

    def load(self) -> Snapshot | None:
        return None if self.data is None else Snapshot.from_bytes(self.data)

    def after_step(self, step: int, capture: Callable[[], Snapshot]) -> None:
        if step % self.every == 0:
            self.data = capture().to_bytes()
        if step == self.stop_after:
            self.stop_after = None
            raise KilledError

    def after_failure(self, capture: Callable[[], Snapshot], batch: Mapping[str, Any]) -> str:
        self.data, self.failed = capture().to_bytes(), batch
        return "its batch was kept by the test"
