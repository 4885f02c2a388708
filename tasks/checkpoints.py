"""Where a training loop's state is kept between runs: in the store, beside the artifact that is being built."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from dr_irl.artifacts.checkpoint import Checkpoint
from dr_irl.errors import CorruptArtifactError
from dr_irl.progress import Meter
from dr_irl.snapshot import Snapshot

logger = logging.getLogger(__name__)


class StoreCheckpoints:
    """Keeps a snapshot every so many steps, and when the run is asked to stop.

    It is kept under the artifact's fingerprint: other settings, inputs or code never find it.
    """

    def __init__(self, kept: Checkpoint, meter: Meter, *, every: int, stopping: Callable[[], bool]) -> None:
        """Keep snapshots in `kept`, one every `every` steps; `meter` hears of the steps that need not be done again."""
        self._kept, self._meter, self._every, self._stopping = kept, meter, every, stopping

    def load(self) -> Snapshot | None:
        """Return the last snapshot; none if there is none, or it is of an older version of us, which is logged."""
        content = self._kept.read()
        if content is None:
            return None
        try:
            snapshot = Snapshot.from_bytes(content)
        except CorruptArtifactError as error:
            logger.warning("starting without the checkpoint %s: %s", self._kept.key, error)
            return None
        logger.info("going on from step %d of the checkpoint %s", snapshot.step, self._kept.key)
        self._meter.resume(snapshot.step)
        return snapshot

    def after_step(self, step: int, capture: Callable[[], Snapshot]) -> None:
        """Keep the state after `step` steps, if it is due."""
        if step % self._every == 0 or self._stopping():
            self._kept.write(capture().to_bytes())

    def after_failure(self, capture: Callable[[], Snapshot], batch: Mapping[str, Any]) -> str:
        """Keep the state before the step that failed, from which the same command goes on, and the step's batch."""
        self._kept.write(capture().to_bytes())
        return f"its batch is in {self._kept.write_failure(json.dumps(dict(batch), indent=1))}"
