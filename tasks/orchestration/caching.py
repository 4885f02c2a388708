"""The one cache policy: an artifact's fingerprint decides, and the store is the truth.

A stage is a function that writes files into a folder. `stage_task` makes it a Prefect task that hands out artifact
keys: what the store has is not built again (state `Cached` in the UI); a Prefect database that was wiped costs nothing.
"""

import functools
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict, cast
from uuid import UUID

import torch
from prefect import Task
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.states import Completed

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.store import Identity
from dr_irl.config import Settings
from tasks.job import Inputs, Job, Make
from tasks.orchestration.failures import RETRIES, after_retries, ending_in_a_sentence, survive_full_memory
from tasks.orchestration.interruption import StoppableProgress, stop_if_requested, stop_requested, time_limit
from tasks.orchestration.limits import slot
from tasks.orchestration.machine import give_back_memory
from tasks.orchestration.opening import open_store
from tasks.orchestration.progress import current_progress
from tasks.orchestration.results import SERIALISER, drop_result, result_key
from tasks.stages import Stage, import_entry

logger = logging.getLogger(__name__)


class ArtifactKey(TypedDict):
    """What tasks hand to each other: an artifact's name, wherever the store lies."""

    stage: str
    fingerprint: str


@functools.cache
def stage_task(stage: Stage) -> Task[..., Any]:
    """Make a stage a task: (settings, store, inputs, variant, rebuild) -> the key of an artifact: stage, fingerprint.

    `inputs` are keys too: where the store lies is nothing that a result should remember.
    """

    def key(context: TaskRunContext, given: dict[str, Any]) -> str:
        """Prefect's cache key: the fingerprint. Whatever result the store does not bear out is dropped first."""
        del context
        store = open_store(given["store_uri"])
        _, ref = _identify(stage, store, given["settings"], given["inputs"], given["variant"])
        if given["rebuild"] or not store.has(ref):
            drop_result(store, ref)
        return result_key(ref)

    @ending_in_a_sentence
    def run(
        settings: Settings,
        store_uri: str,
        inputs: dict[str, ArtifactKey],
        variant: str = "",
        rebuild: bool = False,
    ) -> State[Any]:
        stop_if_requested()
        store = open_store(store_uri)
        identity, ref = _identify(stage, store, settings, inputs, variant)
        found = ArtifactKey(stage=ref.stage, fingerprint=ref.fingerprint)
        if not rebuild and store.has(ref):
            return Completed(name="Cached", data=found, message=f"{ref.stage} {ref.fingerprint} is in the store")
        refs = _refs(store, inputs)
        with store.lease(ref, on_wait=logger.info, needs=refs.values(), while_waiting=stop_if_requested):
            if not rebuild and store.has(ref):
                return Completed(name="Cached", data=found, message=f"another run built {ref.stage} {ref.fingerprint}")
            torch.set_num_threads(1 if stage.single_thread else settings.threads)
            progress = StoppableProgress(current_progress())
            unfinished = store.checkpoint(ref)
            job = Job(settings, Inputs(store, refs), variant, progress, unfinished, stopping=stop_requested)
            with slot(stage.slot), time_limit(ref.stage, _minutes(settings, stage, ref)):
                noted = _build(stage, store, identity, job, rebuild=rebuild)
        give_back_memory()
        return Completed(data=found, message=f"{ref.stage} {ref.fingerprint} built{noted}{after_retries(_run_id())}")

    run.__name__, run.__doc__ = stage.name, f"Make `{stage.name}`: see `{stage.make}`."
    return Task(
        run,
        name=stage.name,
        task_run_name=f"{stage.name} {{variant}}",
        cache_key_fn=key,
        persist_result=True,
        result_serializer=SERIALISER,
        **RETRIES,
    )


def _identify(
    stage: Stage, store: Store, settings: Settings, inputs: Mapping[str, ArtifactKey], variant: str
) -> tuple[Identity, ArtifactRef]:
    identity = stage.identity(settings, variant, _refs(store, inputs))
    return identity, store.ref(identity.stage, identity.fingerprint)


def _refs(store: Store, keys: Mapping[str, ArtifactKey]) -> dict[str, ArtifactRef]:
    return {role: store.ref(**key) for role, key in keys.items()}


def import_maker(stage: Stage) -> Make:
    """Import the function that makes a stage.

    Before tasks run in threads: two threads that import transformers at once find half of it missing.
    """
    return cast(Make, import_entry(stage.make))


def _build(stage: Stage, store: Store, identity: Identity, job: Job, *, rebuild: bool) -> str:
    """Build an artifact; returns what is to be said of how."""
    make = import_maker(stage)
    if rebuild:
        job.unfinished.delete()

    def build(settings: Settings) -> None:
        with store.build(identity, replace=rebuild) as folder:
            make(folder, replace(job, settings=settings))
            stage.require_unchanged(identity, job.settings, job.variant)

    noted = survive_full_memory(build, job.settings, identity.stage)
    job.unfinished.delete()
    return noted


def _minutes(settings: Settings, stage: Stage, ref: ArtifactRef) -> float | None:
    """Return the limit of one artifact, `reward/insult`, or else that of its stage, `reward`."""
    limits = settings.limits.stage_minutes
    return limits.get(ref.stage, limits.get(stage.name))


def _run_id() -> UUID | None:
    context = TaskRunContext.get()
    return context.task_run.id if context else None
