"""The whole method in plain Python: every stage in turn, in this process; same store and same bits as by Prefect.

It is `dr_irl.align`. What Prefect adds is in `tasks/orchestration`: retries, time limits, stages side by side, a page.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.store import Identity
from dr_irl.config import Settings
from dr_irl.progress import ConsoleProgress, Progress
from tasks.contents import ADAPTER, REPORT
from tasks.dag import Node, build_dag
from tasks.identify import identify, refs
from tasks.job import Inputs, Job
from tasks.stages import import_entry
from tasks.trainers import trained_by

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dr_irl.reward.panel import RewardPanel


logger = logging.getLogger(__name__)


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
    named = identify(dag, settings, opened)
    with ConsoleProgress() as console, opened.needing(refs(named).values(), logger.info):
        missing = [name for name, each in named.items() if not opened.has(each.ref)]
        if missing:
            from tasks.models import check_policy  # seconds of imports, which a run that finds everything does without

            check_policy(settings)
        for name in missing:
            inputs = Inputs(opened, {role: named[source].ref for role, source in dag[name].inputs.items()})
            _make(dag[name], named[name].identity, settings, inputs, progress or console)
    return Aligned(settings, opened, refs(named))


def _make(node: Node, identity: Identity, settings: Settings, inputs: Inputs, progress: Progress) -> None:
    """Make a node's artifact, unless another run does meanwhile."""
    import torch

    stage, store = node.stage, inputs.store
    ref = store.ref(identity.stage, identity.fingerprint)
    with store.lease(ref):
        if not store.has(ref):
            torch.set_num_threads(1 if stage.single_thread else settings.threads)
            job = Job(settings, inputs, node.variant, progress, store.checkpoint(ref))
            with store.build(identity) as folder:
                import_entry(stage.make)(folder, job)
                stage.require_unchanged(identity, settings, node.variant)
            job.unfinished.delete()
