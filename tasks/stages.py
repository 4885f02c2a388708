"""Every stage of the DAG: its name, the function that makes it, and what decides its fingerprint.

Light to import: a plan needs no torch. The functions themselves are imported when a stage is built.
"""

import functools
import importlib
import re
from collections.abc import Callable, Mapping
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
from dr_irl.errors import SettingsError
from dr_irl.evaluation.judges import JUDGES
from dr_irl.evaluation.suites import SUITES, own_prompts, suites
from dr_irl.language.resolve import model_identity
from dr_irl.registry import Registry
from tasks.plumbing import BY_VALUE, LEFT_OUT

Reads = Callable[[Settings, str], Mapping[str, Any]]


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
    page: str = ""
    """The function that shows, on the page of the run, what was built or found, `module:name`; none by default."""

    def path(self, variant: str) -> str:
        """Return the name of one of its artifacts: `hardness`, or `reward/insult`."""
        return f"{self.name}/{variant}" if variant else self.name

    def identity(self, settings: Settings, variant: str, inputs: Mapping[str, ArtifactRef]) -> Identity:
        """Work out what an artifact is made from, and so its fingerprint."""
        stage, reads = self.path(variant), self.reads(settings, variant)
        fingerprints = {name: ref.fingerprint for name, ref in inputs.items()}
        source = code_of(self.make)
        return Identity(stage, fingerprint_of(stage, reads, fingerprints, source), reads, fingerprints, source)


def import_entry(entry: str) -> Callable[..., Any]:
    """Import a function that a stage names, `module:name`."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


@functools.cache
def code_of(make: str) -> Mapping[str, str]:
    """Return the hashes of the code that a stage's function can reach, `module:name`, in our packages and its own."""
    return _code(frozenset({"dr_irl", "tasks", re.split(r"[.:]", make)[0]})).reached(make)


@functools.cache
def _code(packages: frozenset[str]) -> Code:
    return Code(packages, left_out=LEFT_OUT, by_value=BY_VALUE)


def named(registry: Registry[Any], name: str) -> dict[str, Any]:
    """Return a name that a stage looks up when it runs, and the code behind it, which no import of the stage tells of.

    Raises:
        SettingsError: there is no such code.
    """
    entry = registry.entries[name]
    try:
        return {"name": name, "code": code_of(entry)}
    except (ModuleNotFoundError, AttributeError) as error:
        raise SettingsError(
            f"{registry.kind} {name!r} is {entry}, but there is no such definition: {error}; name the module that "
            "defines it, and what it calls it"
        ) from error


def _judge(settings: Settings) -> dict[str, Any]:
    return named(JUDGES, settings.judge)


def _categories() -> list[dict[str, str]]:
    """Return the table of harm categories; a row of another package is no code of ours."""
    return [asdict(harm_category(name)) for name in HARM_CATEGORIES]


def _suites() -> dict[str, Any]:
    """Return the code of each suite, and a hash of the prompts that it brings itself, wherever it has them from."""
    texts = {suite.name: "\n".join(own_prompts(suite)) for suite in suites()}
    return {name: named(SUITES, name) | {"prompts": sha256(text.encode()).hexdigest()} for name, text in texts.items()}


def _policy(settings: Settings) -> dict[str, Any]:
    models = settings.models
    return {
        "policy": model_identity(models.policy, models.policy_revision),
        "dtype": models.number_format,
        "device": models.device.split(":")[0],
    }


def _encoder(settings: Settings) -> dict[str, Any]:
    return {"encoder": model_identity(settings.models.encoder, settings.models.encoder_revision)}


def _shaping(section: BaseModel) -> dict[str, Any]:
    """Return the settings of a section but for those that only say how often to save."""
    return section.model_dump(exclude={"checkpoint_every"})


def _some(section: BaseModel, *names: str) -> dict[str, Any]:
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
    lambda s, _: {"route": s.route.model_dump(), "models": _encoder(s)},
)
BALANCE = Stage(
    "balance",
    "tasks.demonstrations:balance",
    lambda s, _: {
        "seed": s.seed,
        "balance": s.balance.model_dump(),
        "demonstrations": s.demonstrations.model_dump(),
        "models": _policy(s) if s.demonstrations.generator == "policy" else {},
        **({"judge": _judge(s), "categories": _categories()} if s.demonstrations.generator == "policy" else {}),
    },
    page="tasks.orchestration.pages:show_balance",
)
WARM_START = Stage(
    "warm-start",
    "tasks.warm_start:warm_start",
    lambda s, _: {
        "seed": s.seed,
        "warm_start": _shaping(s.warm_start),
        "grpo": _some(s.grpo, "lora_rank", "target_modules", "adapted_layers", "micro_batch_tokens"),
        "completions": _some(s.completions, "rows_at_once", "temperature"),
        "models": _policy(s),
    },
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
    lambda s, _: {"seed": s.seed, "completions": s.completions.model_dump(), "models": _policy(s)},
)


def _reward(settings: Settings, category: str) -> dict[str, Any]:
    return {
        "seed": settings.seed,
        "category": category,
        "reward": settings.reward.model_dump(exclude={"checkpoint_every", "training", "single_baseline"}),
        "completions": _some(settings.completions, "max_new_tokens"),
        "judge": _judge(settings),
        "models": _policy(settings),
    }


REWARD = Stage("reward", "tasks.reward:reward_model", _reward, single_thread=True)
REWARD_ALONE = replace(REWARD, single_thread=False)
"""The same, of a model that no other is trained beside."""
JOINT_REWARD = Stage(
    "reward",
    "tasks.reward:joint_reward_models",
    lambda s, _: _reward(s, "") | {"labels": list(s.reward_labels)},
)
HARDNESS = Stage(
    "hardness",
    "tasks.hardness:hardness",
    lambda s, _: {"hardness": _some(s.hardness, "level"), "models": _encoder(s)},
    single_thread=True,
)
PANEL = Stage(
    "panel",
    "tasks.reward:panel",
    lambda s, _: {"models": _policy(s)},
    single_thread=True,
)
PANEL_REPORT = Stage(
    "panel-report",
    "tasks.reward:panel_report",
    lambda s, _: {
        "seed": s.seed,
        "completions": _some(s.completions, "heldout_per_category", "max_new_tokens"),
        "judge": _judge(s),
        "models": _policy(s),
    },
    page="tasks.orchestration.pages:show_rewards",
)


def _grpo(settings: Settings, _: str) -> dict[str, Any]:
    measures = settings.hardness.source == "policy"
    return {
        "seed": settings.seed,
        "grpo": settings.grpo.model_dump(exclude={"checkpoint_every", "alarm", "max_commonest_prefix", "min_entropy"}),
        "alignment": settings.alignment.model_dump(),
        "scaling": settings.scaling.model_dump(),
        "hardness": settings.hardness.model_dump() if measures else {},
        "completions": _some(settings.completions, "max_new_tokens"),
        "judge": _judge(settings),
        "models": _policy(settings) | (_encoder(settings) if measures else {}),
    }


GRPO = Stage(
    "grpo",
    "tasks.alignment:alignment",
    _grpo,
    slot="dr-irl-grpo",
    page="tasks.orchestration.pages:show_scaling",
)
TRL_GRPO = replace(GRPO, make="tasks.alignment_trl:align_with_trl")
"""The same, by TRL's trainer."""
EVALUATION = Stage(
    "evaluation",
    "tasks.evaluation:evaluation",
    lambda s, model: {
        "seed": s.seed,
        "model": model,
        "evaluation": s.evaluation.model_dump(),
        "suites": _suites(),
        "judge": _judge(s),
        "models": _policy(s),
    },
    page="tasks.orchestration.pages:show_refusal",
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
