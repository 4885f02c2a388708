"""What the function of a stage is given: settings, inputs, whom to tell of progress, where to keep unfinished work.

Nothing here knows of Prefect: a stage's function can be called by whoever has a store.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.checkpoint import Checkpoint
from dr_irl.config import Settings
from dr_irl.progress import Meter, Progress
from tasks.checkpoints import StoreCheckpoints


@dataclass(frozen=True)
class Inputs:
    """The artifacts a stage reads, as local folders, verified."""

    store: Store
    refs: Mapping[str, ArtifactRef]

    def folder(self, name: str) -> Path:
        """Return the folder of one input."""
        return self.store.fetch(self.refs[name])

    def __contains__(self, name: str) -> bool:
        """Tell whether the input was given."""
        return name in self.refs


def _go_on() -> bool:
    return False


@dataclass(frozen=True)
class Job:
    """Everything a stage's function is given besides the folder it writes."""

    settings: Settings
    inputs: Inputs
    variant: str
    """What of several alike this is: a category, a model's name; empty where there is one only."""
    progress: Progress
    unfinished: Checkpoint
    """Where the artifact's unfinished state is kept."""
    stopping: Callable[[], bool] = _go_on
    """Tells whether the run was asked to stop: then the state is kept at once."""

    def checkpoints(self, meter: Meter, *, every: int, part: str = "") -> StoreCheckpoints:
        """Return where the training loop that `meter` counts keeps its state, every so many steps.

        Args:
            meter: hears of the steps that need not be done again.
            every: steps between two checkpoints.
            part: the name of one of several loops in one stage.
        """
        kept = self.unfinished.part(part) if part else self.unfinished
        return StoreCheckpoints(kept, meter, every=every, stopping=self.stopping)


Make = Callable[[Path, Job], None]
"""Writes the files of an artifact into a folder."""
