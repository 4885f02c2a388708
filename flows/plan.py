"""What a run will find in the store and what it will build, and why; nothing heavy is imported for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.difference import closest, differences
from dr_irl.artifacts.manifest import Manifest
from dr_irl.artifacts.store import Identity
from dr_irl.config import Settings
from tasks.dag import Dag, Selection

State = Literal["hit", "miss", "anew"]


@dataclass(frozen=True)
class Planned:
    """One artifact of a run."""

    ref: ArtifactRef
    identity: Identity
    state: State
    """`hit`: the store has it; `miss`: it has not; `anew`: it is built although the store may have it."""


def plan_run(dag: Dag, selection: Selection, settings: Settings, store: Store) -> Mapping[str, Planned]:
    """Work out every fingerprint, and look each up in the store: node -> what will happen."""
    refs: dict[str, ArtifactRef] = {}
    planned: dict[str, Planned] = {}
    for name in selection.nodes:
        node = dag[name]
        inputs = {role: refs[source] for role, source in node.inputs.items()}
        identity = node.stage.identity(settings, node.variant, inputs)
        refs[name] = store.ref(identity.stage, identity.fingerprint)
        anew = name in selection.rebuild
        state: State = "anew" if anew else "hit" if store.has(refs[name]) else "miss"
        planned[name] = Planned(refs[name], identity, state)
    return planned


def reasons(planned: Planned, store: Store) -> list[str]:
    """Say why an artifact is built: what changed since the one of its stage, in the store, that is most like it."""
    if planned.state == "hit":
        return []
    if planned.state == "anew":
        return ["asked for"]
    earlier = [m for m in store.manifests(store.refs(planned.ref.stage)).values() if isinstance(m, Manifest)]
    nearest = closest(planned.identity, [manifest for manifest in earlier if manifest.stage == planned.ref.stage])
    return differences(planned.identity, nearest) if nearest else ["never built here"]
