"""Every artifact of a run by its name, before anything is looked up or built."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.store import Identity
from dr_irl.config import Settings
from tasks.dag import Dag


@dataclass(frozen=True, slots=True)
class Named:
    """One artifact of a run, which the store may have."""

    identity: Identity
    ref: ArtifactRef


def identify(dag: Dag, settings: Settings, store: Store, names: Iterable[str] | None = None) -> Mapping[str, Named]:
    """Work out every fingerprint: node -> its artifact. All nodes by default; else some, with those that they read."""
    found: dict[str, Named] = {}
    for name in dag if names is None else names:
        node = dag[name]
        inputs = {role: found[source].ref for role, source in node.inputs.items()}
        identity = node.stage.identity(settings, node.variant, inputs)
        found[name] = Named(identity, store.ref(identity.stage, identity.fingerprint))
    return found


def refs(named: Mapping[str, Named]) -> dict[str, ArtifactRef]:
    """Return node -> the reference of its artifact."""
    return {name: each.ref for name, each in named.items()}
