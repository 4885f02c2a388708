"""What a run will find in the store and what it will build, and why; nothing heavy is imported for it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.difference import closest, differences
from dr_irl.artifacts.manifest import Manifest
from dr_irl.artifacts.store import Identity
from tasks.identify import Named

State = Literal["hit", "miss", "anew"]


@dataclass(frozen=True)
class Planned:
    """One artifact of a run."""

    ref: ArtifactRef
    identity: Identity
    state: State
    """`hit`: the store has it; `miss`: it has not; `anew`: it is built although the store may have it."""


def plan_run(named: Mapping[str, Named], store: Store, rebuild: Collection[str] = frozenset()) -> Mapping[str, Planned]:
    """Look every artifact up in the store: node -> what will happen.

    Args:
        named: what `identify` found.
        store: the store.
        rebuild: the nodes that are built even if the store has their artifacts.
    """

    def state(name: str, ref: ArtifactRef) -> State:
        return "anew" if name in rebuild else "hit" if store.has(ref) else "miss"

    return {name: Planned(each.ref, each.identity, state(name, each.ref)) for name, each in named.items()}


def reasons(planned: Planned, store: Store) -> list[str]:
    """Say why an artifact is built: what changed since the one of its stage, in the store, that is most like it."""
    if planned.state == "hit":
        return []
    if planned.state == "anew":
        return ["asked for"]
    earlier = [m for m in store.manifests(store.refs(planned.ref.stage)).values() if isinstance(m, Manifest)]
    nearest = closest(planned.identity, [manifest for manifest in earlier if manifest.stage == planned.ref.stage])
    return differences(planned.identity, nearest) if nearest else ["never built here"]
