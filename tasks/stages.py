"""Every stage of the DAG: its name, the function that makes it, and what decides its fingerprint.

Light to import: a plan needs no torch. The functions themselves are imported when a stage is built.
"""

import functools
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

from pydantic import BaseModel

from dr_irl.artifacts.fingerprint import fingerprint_of
from dr_irl.artifacts.manifest import ArtifactRef
from dr_irl.artifacts.source import Code
from dr_irl.artifacts.store import Identity
from dr_irl.categories import ALL_LABELS, HARM_CATEGORIES, harm_category
from dr_irl.config import Settings
from dr_irl.demonstrations.sources import source_identity
from dr_irl.errors import SettingsError, UserError
from dr_irl.evaluation.judges import JUDGES
from dr_irl.evaluation.suites import SUITES, own_prompts, suites
from dr_irl.language.resolve import model_identity
from dr_irl.language.samplers import SAMPLERS
from dr_irl.reward.objectives import OBJECTIVES
from tasks.plumbing import BY_VALUE, LEFT_OUT

Reads = Callable[[Settings, str], Mapping[str, Any]]
Entries = Callable[[Settings], Sequence[str]]


def no_entries(settings: Settings) -> Sequence[str]:
    """Name no code besides a stage's own."""
    del settings
    return ()


@dataclass(frozen=True)
class Stage:
    """One kind of node of the DAG."""

    name: str
    """Its name in the store, in the UI and on the command line."""
    make: str
    """The function that writes its files, `module:name`; all code that it can reach is part of the fingerprint."""
    reads: Reads
    """(settings, variant) -> the settings that shape its output, and no others."""
    single_thread: bool = False
    """Run torch on one thread, because several of these run side by side."""
    slot: str = ""
    """The global concurrency limit that a deployed run takes a slot of while it builds; none by default."""
    named: Entries = no_entries
    """What it looks up by a name in the settings, each `module:name`: code of these counts too."""
    page: str = ""
    """The function that shows, on the page of the run, what was built or found, `module:name`; none by default."""

    def path(self, variant: str) -> str:
        """Return the name of one of its artifacts: `hardness`, or `reward/insult`."""
        return f"{self.name}/{variant}" if variant else self.name

    def identity(self, settings: Settings, variant: str, inputs: Mapping[str, ArtifactRef]) -> Identity:
        """Work out what an artifact is made from, and so its fingerprint.

        Raises:
            SettingsError: a name in the settings stands for code that is not there.
        """
        stage, reads = self.path(variant), self.reads(settings, variant)
        fingerprints = {name: ref.fingerprint for name, ref in inputs.items()}
        source = self._source(self.named(settings))
        return Identity(stage, fingerprint_of(stage, reads, fingerprints, source), reads, fingerprints, source)

    def require_unchanged(self, identity: Identity, settings: Settings, variant: str) -> None:
        """Check that what an artifact was made from, outside the store, is what its fingerprint says.

        Raises:
            UserError: a model or a file was replaced while the artifact was built.
        """
        now = self.reads(settings, variant)
        if changed := [name for name, before in identity.settings.items() if now.get(name) != before]:
            raise UserError(
                f"{identity.stage} was not kept: {' and '.join(changed)} that it was made from were replaced while it "
                "was built; run again when nobody writes there"
            )

    def _source(self, entries: Sequence[str]) -> Mapping[str, str]:
        try:
            return code_of(self.make, *entries)
        except (ModuleNotFoundError, AttributeError) as error:
            raise SettingsError(
                f"stage {self.name} cannot be made: {error}; an entry point names the module that defines a thing, and "
                "what it is called there"
            ) from error


def import_entry(entry: str) -> Callable[..., Any]:
    """Import a function that a stage names, `module:name`."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


@functools.cache
def code_of(*entries: str) -> Mapping[str, str]:
    """Return the hashes of the code that functions, each `module:name`, can reach in our packages and their own."""
    return _code(frozenset({"dr_irl", "tasks", *(re.split(r"[.:]", entry)[0] for entry in entries)})).reached(*entries)


@functools.cache
def _code(packages: frozenset[str]) -> Code:
    return Code(packages, left_out=LEFT_OUT, by_value=BY_VALUE)


def entries_of(*choose: Entries) -> Entries:
    """Name what several rules name."""
    return lambda settings: [entry for each in choose for entry in each(settings)]


def sampler_entry(settings: Settings) -> Sequence[str]:
    """Name the class that samples."""
    return [SAMPLERS.entries[settings.models.sampler]]


def judge_entry(settings: Settings) -> Sequence[str]:
    """Name the judge."""
    return [JUDGES.entries[settings.judge]]


def objective_entry(settings: Settings) -> Sequence[str]:
    """Name the loss of the reward models."""
    return [OBJECTIVES.entries[settings.reward.objective]]


def _balance_entries(settings: Settings) -> Sequence[str]:
    generates = settings.demonstrations.generator == "policy"
    return [*judge_entry(settings), *(sampler_entry(settings) if generates else ())]


def _categories() -> list[dict[str, str]]:
    """Return the table of harm categories; a row of another package is no code of ours."""
    return [asdict(harm_category(name)) for name in HARM_CATEGORIES]


def suite_entries(settings: Settings) -> Sequence[str]:
    """Name the suites of the evaluation."""
    del settings
    return list(SUITES.entries.values())


def _suites() -> dict[str, str]:
    """Return a hash of the prompts that each suite brings itself, wherever it has them from."""
    texts = {suite.name: "\n".join(own_prompts(suite)) for suite in suites()}
    return {name: sha256(text.encode()).hexdigest() for name, text in texts.items()}


def policy_identity(settings: Settings) -> dict[str, Any]:
    """Return what decides on the policy's numbers: its files, its template, number format and kind of device."""
    models = settings.models
    return {
        "policy": model_identity(models.policy, models.policy_revision),
        "template": {"arguments": models.template_arguments, "date": models.template_date},
        "dtype": models.number_format,
        "device": models.device.split(":")[0],
    }


def encoder_identity(settings: Settings) -> dict[str, Any]:
    """Return what decides on the encoder's numbers."""
    return {"encoder": model_identity(settings.models.encoder, settings.models.encoder_revision)}


def _shaping(section: BaseModel) -> dict[str, Any]:
    """Return the settings of a section but for those that only say how often to save."""
    return section.model_dump(exclude={"checkpoint_every"})


def some(section: BaseModel, *names: str) -> dict[str, Any]:
    """Return some settings of a section."""
    return section.model_dump(include=set(names))


SOURCES = Stage(
    "sources",
    "tasks.demonstrations:sources",
    lambda s, _: {
        "labels": list(ALL_LABELS),
        "sources": s.sources.model_dump(),
        "contents": source_identity([*s.sources.files, *s.sources.evaluation_files]),
    },
)
ROUTE = Stage(
    "route",
    "tasks.demonstrations:route",
    lambda s, _: {"route": s.route.model_dump(), "models": encoder_identity(s)},
)


BALANCE = Stage(
    "balance",
    "tasks.demonstrations:balance",
    lambda s, _: {
        "seed": s.seed,
        "balance": s.balance.model_dump(),
        "demonstrations": s.demonstrations.model_dump(),
        "judge": s.judge,
        "fitting": {
            **{name: policy_identity(s)[name] for name in ("policy", "template")},
            **some(s.completions, "max_new_tokens"),
        },
        "models": policy_identity(s) if s.demonstrations.generator == "policy" else {},
        **({"categories": _categories()} if s.demonstrations.generator == "policy" else {}),
    },
    page="tasks.orchestration.pages:show_balance",
    named=_balance_entries,
)
WARM_START = Stage(
    "warm-start",
    "tasks.warm_start:warm_start",
    lambda s, _: {
        "seed": s.seed,
        "warm_start": _shaping(s.warm_start),
        "grpo": some(s.grpo, "lora_rank", "target_modules", "adapted_layers", "micro_batch_tokens"),
        "completions": some(s.completions, "rows_at_once", "temperature"),
        "models": policy_identity(s),
    },
    named=sampler_entry,
)
CHAMPION = Stage(
    "champion",
    "tasks.champion:champion",
    lambda s, _: {"champion": model_identity(str(s.models.champion))},
    single_thread=True,
)
COMPLETIONS = Stage(
    "completions",
    "tasks.sampling:completions",
    lambda s, _: {"seed": s.seed, "completions": s.completions.model_dump(), "models": policy_identity(s)},
    named=sampler_entry,
)


def _reward(settings: Settings, category: str) -> dict[str, Any]:
    return {
        "seed": settings.seed,
        "category": category,
        "reward": settings.reward.model_dump(exclude={"checkpoint_every", "training", "single_baseline"}),
        "completions": some(settings.completions, "max_new_tokens"),
        "judge": settings.judge,
        "models": policy_identity(settings),
    }


REWARD = Stage(
    "reward",
    "tasks.reward:reward_model",
    _reward,
    single_thread=True,
    named=entries_of(objective_entry, judge_entry),
)
REWARD_ALONE = replace(REWARD, single_thread=False)
"""The same, of a model that no other is trained beside."""
JOINT_REWARD = Stage(
    "reward",
    "tasks.reward:joint_reward_models",
    lambda s, _: _reward(s, "") | {"labels": list(s.reward_labels)},
    named=entries_of(objective_entry, judge_entry),
)
HARDNESS = Stage(
    "hardness",
    "tasks.hardness:hardness",
    lambda s, _: {"hardness": some(s.hardness, "level"), "models": encoder_identity(s)},
    single_thread=True,
)
PANEL = Stage(
    "panel",
    "tasks.reward:panel",
    lambda s, _: {"models": policy_identity(s)},
    single_thread=True,
)
PANEL_REPORT = Stage(
    "panel-report",
    "tasks.reward:panel_report",
    lambda s, _: {
        "seed": s.seed,
        "completions": some(s.completions, "heldout_per_category", "max_new_tokens"),
        "judge": s.judge,
        "models": policy_identity(s),
    },
    page="tasks.orchestration.pages:show_rewards",
    named=judge_entry,
)


EVALUATION = Stage(
    "evaluation",
    "tasks.evaluation:evaluation",
    lambda s, model: {
        "seed": s.seed,
        "model": model,
        "evaluation": s.evaluation.model_dump(),
        "suites": _suites(),
        "judge": s.judge,
        "models": policy_identity(s),
    },
    page="tasks.orchestration.pages:show_refusal",
    named=entries_of(sampler_entry, judge_entry, suite_entries),
)
REPORT = Stage(
    "report",
    "tasks.report:report",
    lambda s, _: (
        s.model_dump(
            exclude=dict.fromkeys(("grpo", "reward", "warm_start"), {"checkpoint_every"})
            | {"limits": True, "promotion": True}
        )
        | {"categories": _categories(), "suites": _suites()}
    ),
    page="tasks.orchestration.pages:show_report",
)
