"""The whole DAG on one screen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dr_irl.categories import SINGLE
from dr_irl.config import Settings
from dr_irl.errors import SettingsError
from tasks import stages
from tasks.contents import ALIGNED, TRAINED, UNALIGNED
from tasks.stages import Stage
from tasks.trainers import Trainer, trainer_of, warm_starts


@dataclass(frozen=True)
class Node:
    """One artifact to make."""

    stage: Stage
    inputs: Mapping[str, str] = field(default_factory=dict)
    """What the stage calls an input -> the node that makes it."""
    variant: str = ""
    """What of several alike this is: a category, a model's name."""
    after: Sequence[str] = ()
    """Nodes that it waits for without reading them: each keeps every core busy."""


Dag = Mapping[str, Node]
"""Name -> node, every node after those it reads."""


def build_dag(settings: Settings) -> Dag:
    """Lay out the stages that these settings ask for."""
    trainer = trainer_of(settings)
    trainer.check(settings)
    champion = [stages.CHAMPION.name] if settings.models.champion else []
    warm = [stages.WARM_START.name] if warm_starts(settings) else []
    start = champion if settings.models.start == "champion" else warm
    single = [stages.REWARD.path(SINGLE)] if settings.reward.single_baseline else []
    rewards = _reward_nodes(settings, beside=single)
    wide = [node.stage.path(node.variant) for node in rewards if not node.stage.single_thread]
    nodes = [
        # Before all others: what runs beside a stage that has every thread would take some from it.
        *(Node(stages.CHAMPION) for _ in champion),
        Node(stages.SOURCES, after=champion),
        Node(stages.ROUTE, _same("sources")),
        Node(stages.BALANCE, _same("route")),
        *(Node(stages.WARM_START, _same("balance")) for _ in warm),
        Node(stages.COMPLETIONS, _same("balance"), after=warm),
        # The longest first: it takes as long as all the others together.
        *(Node(stages.REWARD, _same("balance", "completions"), SINGLE) for _ in single),
        *rewards,
        Node(stages.HARDNESS, _same("balance", "completions"), after=wide),
        Node(stages.PANEL, _same(*(node.stage.path(node.variant) for node in rewards))),
        Node(stages.PANEL_REPORT, _same("balance", "completions", "panel", *single), after=["hardness"]),
        Node(trainer.stage, _read_by(trainer, settings, start=start, single=single), after=["panel-report"]),
        *_evaluation_nodes([*warm, *champion], trainer.stage.name),
    ]
    dag = {node.stage.path(node.variant): node for node in nodes}
    dag["report"] = Node(stages.REPORT, {TRAINED if name == trainer.stage.name else name: name for name in dag})
    _named(dag, settings.limits.stage_minutes)  # a limit on a stage that is misspelt would limit nothing
    return dag


def _reward_nodes(settings: Settings, *, beside: Sequence[str]) -> list[Node]:
    """Lay out one node per reward model or, where they are trained together, one for all.

    Two are trained at once, on a thread each; where their number is odd, the last one has all threads to itself. What
    has all threads waits for the others, and for what else runs `beside` them.
    """
    inputs = _same("balance", "completions")
    if settings.reward.training == "joint":
        return [Node(stages.JOINT_REWARD, inputs, after=beside)]
    *labels, last = reversed(settings.reward_labels)
    if len(labels) % 2:
        return [Node(stages.REWARD, inputs, label) for label in (*labels, last)]
    others = [stages.REWARD.path(label) for label in labels]
    return [
        *(Node(stages.REWARD, inputs, label) for label in labels),
        Node(stages.REWARD_ALONE, inputs, last, after=[*others, *beside]),
    ]


def _read_by(trainer: Trainer, settings: Settings, *, start: Sequence[str], single: Sequence[str]) -> dict[str, str]:
    rewards = ["hardness", "panel", *(single if settings.grpo.reward_models == "single" else [])]
    return _same("balance", *(rewards if trainer.rewards else [])) | dict(zip(["start"], start, strict=False))


def _evaluation_nodes(trained_before: Sequence[str], trained: str) -> list[Node]:
    """Lay out the evaluations, one after the other: the unaligned model, adapters made before, the trained one."""
    adapters = {UNALIGNED: "", **{name: name for name in trained_before}, ALIGNED: trained}
    earlier = [trained, *(stages.EVALUATION.path(model) for model in adapters)]
    return [
        Node(
            stages.EVALUATION, _same("balance") | ({"adapter": adapter} if adapter else {}), model, after=[earlier[row]]
        )
        for row, (model, adapter) in enumerate(adapters.items())
    ]


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


@dataclass(frozen=True)
class Selection:
    """What part of a DAG to run."""

    nodes: Sequence[str]
    """In the order of the DAG."""
    rebuild: frozenset[str] = frozenset()
    """Those that are built even if the store has them."""


def select(
    dag: Dag, *, from_stage: str | None = None, refresh: Iterable[str] = (), only: Iterable[str] = ()
) -> Selection:
    """Choose what to run; `reward` names all reward models, `reward/insult` one.

    Args:
        dag: the whole.
        from_stage: build this stage and all that reads it, directly or not, anew.
        refresh: build these stages anew; what reads them keeps what it has.
        only: run these stages and what they read, nothing else.

    Raises:
        SettingsError: there is no such stage in this run, or `only` leaves out what is to be built anew.
    """
    wanted = _named(dag, only)
    nodes = _with_needs(dag, wanted) if wanted else set(dag)
    anew = _named(dag, refresh)
    begin = _named(dag, [from_stage] if from_stage else [])
    if left_out := (anew | begin) - nodes:
        raise SettingsError(
            f"stage {min(left_out)!r} is to be built anew, but it is not among what --only asks for: "
            f"{', '.join(name for name in dag if name in nodes)}"
        )
    rebuild = (anew | _with_dependents(dag, begin)) & nodes
    return Selection([name for name in dag if name in nodes], frozenset(rebuild))


def _named(dag: Dag, names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        nodes = {node for node in dag if name in (node, dag[node].stage.name)}
        if not nodes:
            known = dict.fromkeys(node.stage.name for node in dag.values())
            raise SettingsError(f"stage {name!r} is not part of this run; its stages are {', '.join(known)}")
        found |= nodes
    return found


def _with_needs(dag: Dag, names: set[str]) -> set[str]:
    found = set(names)
    for name in reversed(list(dag)):
        if name in found:
            found |= set(dag[name].inputs.values())
    return found


def _with_dependents(dag: Dag, names: set[str]) -> set[str]:
    found = set(names)
    for name, node in dag.items():
        if found & set(node.inputs.values()):
            found.add(name)
    return found
