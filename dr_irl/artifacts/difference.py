"""Why an artifact is not the one that was made before."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from dr_irl.artifacts.manifest import Manifest
from dr_irl.artifacts.store import Identity

_SHOWN_CHARACTERS = 60
_MISSING = object()


def closest(identity: Identity, manifests: Iterable[Manifest]) -> Manifest | None:
    """Return the manifest that differs in the fewest points; of several, the newest."""
    return min(manifests, key=lambda m: (len(differences(identity, m)), -m.created.timestamp()), default=None)


def differences(identity: Identity, manifest: Manifest) -> list[str]:
    """Say in what an artifact that is to be made differs from one that was: a line per setting, input and module."""
    settings = _changed(_flat(manifest.settings), _flat(identity.settings))
    inputs = _changed(manifest.inputs, identity.inputs)
    source = _changed(manifest.source, identity.source)
    return [
        *(f"setting {name}: {_shown(old)} -> {_shown(new)}" for name, old, new in settings),
        *(f"input {name}: {_short(old)} -> {_short(new)}" for name, old, new in inputs),
        *(f"code {name}: {_short(old)} -> {_short(new)}" for name, old, new in source),
    ]


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    names = sorted(old.keys() | new.keys())
    pairs = [(name, old.get(name, _MISSING), new.get(name, _MISSING)) for name in names]
    return [(name, before, after) for name, before, after in pairs if before != after]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted name -> value as JSON gives it back: a tuple is a list there."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = json.loads(json.dumps(value))
    return flat


def _shown(value: Any) -> str:
    text = "absent" if value is _MISSING else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def _short(value: Any) -> str:
    return "absent" if value is _MISSING else str(value)[:8]
