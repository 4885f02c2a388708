"""The one cache policy: an artifact's fingerprint decides, and the store is the truth.

A stage is a function that writes files into a folder. `stage_task` makes it a Prefect task that hands out artifact
references: what the store has is not built again (state `Cached` in the UI); a Prefect database that was wiped
costs nothing.
"""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from prefect import Task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from dr_irl.artifacts import ArtifactRef, Store, fingerprint_of, source_hash
from dr_irl.artifacts.store import Identity
from dr_irl.config import Settings
from dr_irl.progress import Progress
from tasks.machine import give_back_memory
from tasks.reporting import current_progress

logger = logging.getLogger(__name__)


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


@dataclass(frozen=True)
class Job:
    """Everything a stage's function is given besides the folder it writes."""

    settings: Settings
    inputs: Inputs
    variant: str
    """What of several alike this is: a category, a model's name; empty where there is one only."""
    progress: Progress


Make = Callable[[Path, Job], None]


@functools.cache
def open_store(uri: str) -> Store:
    """Open a store once per process: what it has verified need not be hashed again."""
    return Store(uri)


def stage_task(
    name: str,
    *,
    modules: Sequence[str],
    reads: Callable[[Settings, str], Mapping[str, Any]],
    single_thread: bool = False,
) -> Callable[[Make], Task[..., Any]]:
    """Make a function that writes files a task that returns the reference of an artifact.

    Args:
        name: the stage's name, in the store and in the UI.
        modules: the `dr_irl` modules that shape its output; their source is part of the fingerprint.
        reads: (settings, variant) -> the settings that shape its output, and no others.
        single_thread: run torch on one thread, because several of these tasks run side by side.
    """

    def decorate(make: Make) -> Task[..., Any]:
        def run(settings: Settings, store_uri: str, inputs: dict[str, ArtifactRef], variant: str = "") -> State[Any]:
            store = open_store(store_uri)
            stage = f"{name}/{variant}" if variant else name
            identity = _identity(stage, reads(settings, variant), inputs, modules)
            ref = store.ref(stage, identity.fingerprint)
            if store.has(ref):
                return Completed(name="Cached", data=ref, message=f"{stage} {ref.fingerprint} is in the store")
            torch.set_num_threads(1 if single_thread else settings.threads)
            job = Job(settings, Inputs(store, inputs), variant, current_progress())
            with store.build(identity) as folder:
                make(folder, job)
            give_back_memory()
            return Completed(data=ref, message=f"{stage} {ref.fingerprint} built")

        run.__name__, run.__doc__ = name, make.__doc__
        return Task(run, name=name, task_run_name=f"{name} {{variant}}", persist_result=False)

    return decorate


def _identity(
    stage: str, settings: Mapping[str, Any], inputs: Mapping[str, ArtifactRef], modules: Sequence[str]
) -> Identity:
    fingerprints = {name: ref.fingerprint for name, ref in inputs.items()}
    return Identity(
        stage=stage,
        fingerprint=fingerprint_of(stage, settings, fingerprints, modules),
        settings=settings,
        inputs=fingerprints,
        source={module: source_hash(module) for module in modules},
    )
