"""The whole method in plain Python: every stage in turn, in this process; same store and same bits as by Prefect.

It is `dr_irl.align`. What Prefect adds is in `tasks/orchestration`: retries, time limits, stages side by side, a page.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.config import Settings
from dr_irl.progress import ConsoleProgress, Progress
from tasks.contents import ADAPTER, REPORT
from tasks.dag import Node, build_dag, select
from tasks.job import Inputs, Job
from tasks.stages import import_entry
from tasks.trainers import trained_by

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dr_irl.reward.panel import RewardPanel


@dataclass(frozen=True)
class Aligned:
    """What an alignment made, by the names of the DAG's nodes."""

    settings: Settings
    store: Store
    artifacts: Mapping[str, ArtifactRef]

    @property
    def adapter(self) -> Path:
        """The trained policy's adapter, as PEFT loads it: a local folder."""
        return self.folder(trained_by(self.settings)) / ADAPTER

    @property
    def report(self) -> Path:
        """What was found, as one HTML file."""
        return self.folder("report") / REPORT

    def folder(self, node: str) -> Path:
        """Return the verified files of one artifact as a local folder."""
        return self.store.fetch(self.artifacts[node])

    def policy(self) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """Load the aligned model, its adapter merged in, and its tokenizer."""
        from tasks.models import merged_policy

        return merged_policy(self.settings, self.adapter)

    def panel(self) -> "RewardPanel":
        """Load the reward models."""
        from dr_irl.reward.panel import RewardPanel

        return RewardPanel.load(self.folder("panel"), device=self.settings.models.device)


def align(settings: Settings, *, store: str | Path = "store", progress: Progress | None = None) -> Aligned:
    """Align a model with DR-IRL; what the store has is not made again, and a stopped run goes on from its checkpoint.

    Args:
        settings: of the run: `load_settings("demo", {"grpo.steps": 8})`.
        store: a folder or `s3://bucket/prefix` for artifacts.
        progress: hears of progress; standard error by default.

    Raises:
        UserError: settings, data or models that cannot be used; the sentence says what to do.
    """
    opened, dag = Store(str(store)), build_dag(settings)
    with ConsoleProgress() as console:
        made: dict[str, ArtifactRef] = {}
        for name in select(dag).nodes:
            inputs = {role: made[source] for role, source in dag[name].inputs.items()}
            made[name] = _made(dag[name], settings, Inputs(opened, inputs), progress or console)
    return Aligned(settings, opened, made)


def _made(node: Node, settings: Settings, inputs: Inputs, progress: Progress) -> ArtifactRef:
    """Return a node's artifact, made now unless the store has it."""
    stage, store = node.stage, inputs.store
    identity = stage.identity(settings, node.variant, inputs.refs)
    ref = store.ref(identity.stage, identity.fingerprint)
    if store.has(ref):
        return ref
    import torch

    with store.lease(ref):
        if not store.has(ref):
            torch.set_num_threads(1 if stage.single_thread else settings.threads)
            job = Job(settings, inputs, node.variant, progress, store.checkpoint(ref))
            with store.build(identity) as folder:
                import_entry(stage.make)(folder, job)
            job.unfinished.delete()
    return ref
