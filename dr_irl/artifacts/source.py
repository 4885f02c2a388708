"""The identity of code: hashes of the syntax that makes an artifact, comments and layout left out."""

import ast
import functools
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

_PACKAGE = "dr_irl"
_SHAPES_NOTHING = ("artifacts", "errors", "progress")
"""Modules of the package that no artifact depends on: where it lies, how an error reads, who hears of progress."""


def module_hashes(modules: Iterable[str]) -> dict[str, str]:
    """Hash `dr_irl` modules and every `dr_irl` module they reach by import and that can shape an artifact.

    Returns:
        Name -> 16 hex digits.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    found: dict[str, str] = {}
    pending = list(modules)
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = _module_hash(name)
            pending.extend(_imports(name))
    return dict(sorted(found.items()))


def function_hash(location: str, *, plumbing: Iterable[str] = ()) -> str:
    """Hash a function `module:name` and whatever it uses of its own package's modules (16 hex digits).

    Args:
        location: of the function.
        plumbing: modules of the package that shape nothing, and are not followed.

    Raises:
        ModuleNotFoundError: there is no such module.
        AttributeError: the module defines no such function.
    """
    module, _, name = location.partition(":")
    if name not in _definitions(module):
        raise AttributeError(f"cannot fingerprint {location!r}: {module} defines no {name!r}")
    used: set[tuple[str, str]] = set()
    pending, closed = [(module, name)], set(plumbing)
    while pending:
        home, current = pending.pop()
        if (home, current) in used or home in closed:
            continue
        if (definition := _definitions(home).get(current)) is not None:
            used.add((home, current))
            pending += [(home, node.id) for node in ast.walk(definition) if isinstance(node, ast.Name)]
        elif (source := _own_imports(home).get(current)) is not None:
            pending.append(source)
    return _hash("\n".join(ast.dump(_definitions(home)[each]) for home, each in sorted(used)))


@functools.cache
def _module_hash(module: str) -> str:
    return _hash(ast.dump(_tree(module)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def _tree(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"cannot fingerprint {module!r}: no such module")
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


@functools.cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """Return what a module defines at its top level: functions, classes and constants."""
    defined: dict[str, ast.stmt] = {}
    for statement in _tree(module).body:
        for name in _names(statement):
            defined[name] = statement
    return defined


def _names(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name


@functools.cache
def _own_imports(module: str) -> dict[str, tuple[str, str]]:
    """Return what a module imports by name from its own package: name there -> module and name where it is from."""
    package = module.split(".")[0]
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package
        for alias in node.names
    }


@functools.cache
def _imports(module: str) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names if _is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and _is_ours(node.module):
            names.add(node.module)
            names.update(
                f"{node.module}.{alias.name}" for alias in node.names if _has_submodule(node.module, alias.name)
            )
    return frozenset(name for name in names if name.removeprefix(f"{_PACKAGE}.").split(".")[0] not in _SHAPES_NOTHING)


def _is_ours(name: str) -> bool:
    return name == _PACKAGE or name.startswith(f"{_PACKAGE}.")


def _has_submodule(package: str, name: str) -> bool:
    origin = importlib.util.find_spec(package)
    if origin is None or origin.submodule_search_locations is None:
        return False
    return importlib.util.find_spec(f"{package}.{name}") is not None
