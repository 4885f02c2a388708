"""Modules that are read and never imported: where they lie, and their statements by the names that these bind."""

import ast
import functools
import importlib.util
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

from dr_irl.artifacts.effects import acts
from dr_irl.artifacts.syntax import ANY, Import, Piece, imports_of, read_piece

EFFECTS, MAIN, DATA = "", "__main__", "data/"
"""In place of a name: what a module does when it is imported, and when it is run as a program; the files beside it."""


_ATTEMPTS = 5
_parsing = Lock()
_IS_MAIN = "__name__ == '__main__'"
_CHECKING_TYPES = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
_WORD = re.compile(r"\w+")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def source_file(name: str) -> Path | None:
    """Return where a module's text lies; None where there is no such module. Nothing is imported for it."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin).parent.joinpath(*rest) if rest else Path(spec.origin)
    found = [place] if not rest else [place / "__init__.py", place.with_name(f"{place.name}.py")]
    return next((path for path in found if path.is_file()), None)


@functools.cache
def source_text(name: str) -> str:
    """Return a module's text, read once: a process that runs it goes on with the one that it imported.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    if (path := source_file(name)) is None:
        raise ModuleNotFoundError(f"cannot fingerprint {name!r}: no such module")
    return path.read_text(encoding="utf-8")


def is_package(name: str) -> bool:
    """Tell whether a module is the `__init__` of a package."""
    path = source_file(name)
    return path is not None and path.name == "__init__.py"


def submodules(package: str) -> list[str]:
    """Return all modules of a package, itself included, at any depth."""
    path = source_file(package)
    if path is None or not is_package(package):
        return [package]
    inside = (file.relative_to(path.parent).with_suffix("").parts for file in path.parent.rglob("*.py"))
    return sorted({".".join([package, *(p for p in parts if p != "__init__")]) for parts in inside})


def data_files(package: str) -> Mapping[str, Path]:
    """Return the files of a package that are no code, and of no package inside it: `package/file` -> path."""
    if (path := source_file(package)) is None or not is_package(package):
        return {}
    packages = [init.parent for init in path.parent.rglob("__init__.py")]
    files = (file for file in path.parent.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc"))
    own = (file for file in files if max((p for p in packages if p in file.parents), key=str) == path.parent)
    return {f"{package.replace('.', '/')}/{file.relative_to(path.parent).as_posix()}": file for file in own}


def module(name: str, *, verbatim: bool = False) -> "Module":
    """Read a module.

    Args:
        name: of the module.
        verbatim: let docstrings and annotations count.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    return _parsed(name, source_text(name), is_package(name), verbatim)


def _parse(text: str) -> ast.Module:
    """Parse a module, where other threads may parse as well.

    Python counts the depth of all trees that are being made together (seen in 3.11.7), and takes another thread's for a
    fault of this one: a SystemError, rarely, which says nothing about the text.
    """
    with _parsing:
        for _ in range(_ATTEMPTS - 1):
            with suppress(SystemError):
                return ast.parse(text)
        return ast.parse(text)


class Module:
    """The statements of one module, by the names that they bind."""

    def __init__(self, package: str, text: str, *, verbatim: bool) -> None:
        """Parse it; `package` is what relative imports start from."""
        self._package, self._verbatim = package, verbatim
        self._pieces: dict[str, Piece] = {}
        self._statements: dict[str, list[ast.stmt]] = {EFFECTS: [], MAIN: []}
        self.imports: dict[str, list[Import]] = {}
        """Name -> what it may stand for."""
        self.acting: set[str] = set()
        """Names whose definition does more than define them."""
        self.methods: dict[str, str] = {}
        """Of its classes: `Class.method` -> `method`."""
        body, words = _parse(text).body, Counter(_WORD.findall(text))
        for statement in body:
            for node in _at_the_top(statement):
                for each in imports_of(node, package) if isinstance(node, ast.Import | ast.ImportFrom) else ():
                    self.imports.setdefault(each.name, []).append(each)
                for name in _bound(node):
                    self._statements.setdefault(name, []).append(statement)
        self._modules = {each for each, found in self.imports.items() if all(one.is_module for one in found)}
        self.names = frozenset({*self._statements, *self.imports} - {ANY})
        """All names that it binds, with `EFFECTS` and `MAIN`."""
        for statement in body:
            if _is_main(statement):
                self._statements[MAIN].append(statement)
            elif not _is_for_types(statement) and (acts(statement, self.full) or _is_for_its_effect(statement, words)):
                names = {name for node in _at_the_top(statement) for name in _bound(node)}
                self.acting |= names
                self._statements[EFFECTS] += [] if names else [statement]
        for holder in (each for each in body if isinstance(each, ast.ClassDef)):
            for method in (each for each in holder.body if isinstance(each, _FUNCTIONS)):
                self.methods[f"{holder.name}.{method.name}"] = method.name
                self._statements.setdefault(f"{holder.name}.{method.name}", []).append(method)

    def full(self, chain: str) -> str:
        """Return what a name with its attributes stands for, in full."""
        first, *rest = chain.split(".")
        return ".".join([self.imports[first][0].target, *rest]) if first in self.imports else chain

    def defines(self, name: str) -> bool:
        """Tell whether a statement other than an import binds a name."""
        return bool(self._statements.get(name))

    def is_class(self, name: str) -> bool:
        """Tell whether a name stands for a class."""
        return any(isinstance(each, ast.ClassDef) for each in self._statements.get(name, ()))

    def is_constant(self, name: str) -> bool:
        """Tell whether a name stands for a value: no function, no class, and nothing that a call makes."""
        kinds = (*_FUNCTIONS, ast.ClassDef, ast.Call)
        return self.defines(name) and not any(
            isinstance(each, kinds) for statement in self._statements[name] for each in ast.walk(statement)
        )

    def piece(self, name: str) -> Piece:
        """Read the statements that bind a name; an import counts as what it makes the name stand for."""
        if name not in self._pieces:
            statements, found = self._statements.get(name), Piece()
            if statements:
                found = read_piece(statements, self._package, self.full, self._modules, verbatim=self._verbatim)
            found.text += "".join(f"{each.name} is {each.target} " for each in self.imports.get(name, []))
            self._pieces[name] = found
        return self._pieces[name]


@functools.lru_cache(maxsize=1024)
def _parsed(name: str, text: str, is_package: bool, verbatim: bool) -> Module:
    return Module(name if is_package else name.rpartition(".")[0], text, verbatim=verbatim)


def _at_the_top(statement: ast.AST) -> Iterator[ast.AST]:
    """Return a statement and what is inside it, but for what is inside functions and classes."""
    yield statement
    if not isinstance(statement, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
        for node in ast.iter_child_nodes(statement):
            yield from _at_the_top(node)


def _bound(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case _:
            return


def _is_main(statement: ast.stmt) -> bool:
    """Tell whether a statement runs only where the module is the program."""
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == _IS_MAIN and not statement.orelse


def _is_for_types(statement: ast.stmt) -> bool:
    """Tell whether a statement never runs: it is there for who checks annotations, which count for nothing."""
    return isinstance(statement, ast.If) and ast.unparse(statement.test) in _CHECKING_TYPES and not statement.orelse


def _is_for_its_effect(statement: ast.stmt, words: Mapping[str, int]) -> bool:
    """Tell whether a statement imports what the module never names again."""
    if not isinstance(statement, ast.Import | ast.ImportFrom):
        return False
    return any(words[alias.asname or alias.name.split(".")[0]] == 1 for alias in statement.names if alias.name != ANY)
