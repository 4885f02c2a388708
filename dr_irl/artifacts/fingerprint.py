"""The identity of an artifact: its settings, its inputs and the code that makes it."""

import ast
import functools
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_PACKAGE = "dr_irl"


def canonical_json(value: Any) -> str:
    """Serialise to JSON with sorted keys and no spaces; refuses NaN and infinity with a ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint_of(stage: str, settings: Mapping[str, Any], inputs: Mapping[str, str], modules: Iterable[str]) -> str:
    """Fingerprint one artifact (32 hex digits).

    Args:
        stage: name of the stage that makes it.
        settings: the JSON-serialisable settings that shape it, and no others.
        inputs: name -> fingerprint or content hash of each input.
        modules: dotted names of the `dr_irl` modules that make it; what they import counts too.
    """
    identity = {
        "stage": stage,
        "settings": dict(settings),
        "inputs": dict(inputs),
        "source": {module: source_hash(module) for module in sorted(modules)},
    }
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:32]


def file_sha256(path: Path) -> str:
    """Hash a file's bytes (64 hex digits)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@functools.cache
def source_hash(module: str) -> str:
    """Hash the syntax of a `dr_irl` module and of every `dr_irl` module it reaches by import.

    Comments and layout do not count: the parsed tree is hashed, not the text.
    """
    digest = hashlib.sha256()
    for name in sorted(_reachable(module)):
        digest.update(f"{name}\n{ast.dump(_tree(name))}\n".encode())
    return digest.hexdigest()[:16]


def _reachable(module: str) -> set[str]:
    found: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending.extend(_imports(name))
    return found


@functools.cache
def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"cannot fingerprint {module!r}: no such module")
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _imports(module: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names if _is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and _is_ours(node.module):
            names.add(node.module)
            names.update(
                f"{node.module}.{alias.name}" for alias in node.names if _has_submodule(node.module, alias.name)
            )
    return names


def _is_ours(name: str) -> bool:
    return name == _PACKAGE or name.startswith(f"{_PACKAGE}.")


def _has_submodule(package: str, name: str) -> bool:
    origin = importlib.util.find_spec(package)
    if origin is None or origin.submodule_search_locations is None:
        return False
    return importlib.util.find_spec(f"{package}.{name}") is not None
