"""What statements do and what they use, as far as their syntax tells: no comment, docstring or type hint counts.

Annotations of a class's fields stay: they are the schema of records and settings.
"""

import ast
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dr_irl.artifacts.effects import Names, chain_of, is_harmless

ANY = "*"
"""In place of a name: whichever it is."""
_BY_NAME = ("getattr", "operator.attrgetter", "operator.methodcaller")
"""What takes attributes whose names are given to it."""
_WITHOUT_MEANING = frozenset({"ctx", "kind", "type_comment"})


@dataclass(frozen=True, slots=True)
class Import:
    """A name that an import binds."""

    name: str
    """`ANY` where it binds all names there are."""
    target: str
    """What the name stands for: `dr_irl.records.Example`."""
    loads: str
    """The longest name that may be a module's, which is then imported."""
    is_module: bool = False
    """Whether the name is sure to stand for a module."""


@dataclass(slots=True)
class Piece:
    """Statements, as what they do and what they use."""

    text: str = ""
    """Their syntax."""
    uses: set[str] = field(default_factory=set)
    """Names that are looked up, each with the attributes that are taken of it: `plots.draw`."""
    bound: set[str] = field(default_factory=set)
    """Names of their own: parameters, variables, what is defined inside."""
    imports: list[Import] = field(default_factory=list)
    strings: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    """Of whatever objects; `ANY` where one is named at run time only."""


def read_piece(
    statements: Iterable[ast.AST], package: str, full: Names, imported: Collection[str], *, verbatim: bool = False
) -> Piece:
    """Read statements.

    Args:
        statements: in their order.
        package: of their module, from which relative imports start.
        full: what names stand for there.
        imported: names that stand for modules there.
        verbatim: let docstrings and annotations count, for code that reads them.
    """
    reading = _Reading(package, full, imported, verbatim)
    for statement in statements:
        reading.write(statement)
    reading.piece.text = "".join(reading.written)
    return reading.piece


def imports_of(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[Import]:
    """Return what an import binds."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            first = alias.name.split(".")[0]
            yield Import(alias.asname or first, alias.name if alias.asname else first, alias.name, True)
        return
    parents = package.split(".")
    home = ".".join([*parents[: len(parents) - node.level + 1 if node.level else 0], *filter(None, [node.module])])
    for alias in node.names:
        target = home if alias.name == ANY else f"{home}.{alias.name}"
        yield Import(alias.asname or alias.name, target, target)


def is_text(node: Any) -> bool:
    """Tell whether a statement is nothing but a string: a docstring, of whatever."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


class _Reading:
    """Writes syntax down, and notes on the way what it uses."""

    def __init__(self, package: str, full: Names, imported: Collection[str], verbatim: bool) -> None:
        self.piece, self.written = Piece(), list[str]()
        self._package, self._full, self._imported, self._verbatim = package, full, imported, verbatim
        self._hints, self._in_class = verbatim, False

    def write(self, value: Any) -> None:
        """Write a node, or a part of one."""
        if isinstance(value, ast.AST):
            _WRITERS.get(type(value), _Reading._parts)(self, value)
        elif isinstance(value, list):
            self.written.append("[")
            for part in value:
                if self._verbatim or not is_text(part):
                    self.write(part)
            self.written.append("]")
        else:
            self.written.append(f"{value!r},")

    def _parts(self, node: ast.AST, *without: str) -> None:
        self.written.append(f"{type(node).__name__}(")
        for name in node._fields:
            value = None if name in _WITHOUT_MEANING or name in without else getattr(node, name)
            if value not in (None, []):  # what is absent is not written: a later version of Python may know more
                self.written.append(f"{name}=")
                self.write(value)
        self.written.append(")")

    def _name(self, node: ast.Name) -> None:
        (self.piece.bound if isinstance(node.ctx, ast.Store) else self.piece.uses).add(node.id)
        self.written.append(f"{node.id} ")

    def _attribute(self, node: ast.Attribute) -> None:
        self.piece.attributes.add(node.attr)
        if chain := chain_of(node):
            self.piece.uses.add(chain)
            self.piece.attributes.update(chain.split(".")[1:])
            self.written.append(f"{chain} ")
        else:
            self._parts(node)

    def _constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.piece.strings.add(node.value)
        self.written.append(f"{node.value!r},")

    def _call(self, node: ast.Call) -> None:
        callee = self._full(chain_of(node.func))
        if callee == "logging.getLogger":  # is told a module's name, and does not run that module
            self.written.append(f"{callee} ")
            return
        of_module = callee == "getattr" and chain_of(node.args[0]).split(".")[0] in self._imported
        names = node.args[1:2] if callee == "getattr" else node.args
        if callee in _BY_NAME and not of_module and not all(isinstance(each, ast.Constant) for each in names):
            self.piece.attributes.add(ANY)
        self._parts(node)

    def _argument(self, node: ast.arg) -> None:
        self.piece.bound.add(node.arg)
        self._parts(node, *(() if self._hints else ("annotation",)))

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.piece.bound.add(node.name)
        hints, in_class = self._hints, self._in_class
        self._hints, self._in_class = hints or any(not is_harmless(d, self._full) for d in node.decorator_list), False
        self._parts(node, *(() if self._hints else ("returns",)))
        self._hints, self._in_class = hints, in_class

    def _class(self, node: ast.ClassDef) -> None:
        self.piece.bound.add(node.name)
        in_class, self._in_class = self._in_class, True
        self._parts(node)
        self._in_class = in_class

    def _annotated(self, node: ast.AnnAssign) -> None:
        if self._in_class or self._verbatim:
            self._parts(node)
            if isinstance(node.annotation, ast.Constant) and isinstance(node.annotation.value, str):
                self.write(ast.parse(node.annotation.value, mode="eval").body)
        elif node.value is not None:
            self._parts(ast.Assign(targets=[node.target], value=node.value))
        else:
            self._parts(node, "annotation")

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.piece.imports += imports_of(node, self._package)
        self._parts(node)

    def _binding(self, node: ast.ExceptHandler | ast.MatchAs | ast.MatchStar | ast.MatchMapping) -> None:
        bound = node.rest if isinstance(node, ast.MatchMapping) else node.name
        self.piece.bound.update([bound] if bound else [])
        self._parts(node)

    def _global(self, node: ast.Global) -> None:
        self.piece.uses.update(node.names)
        self._parts(node)


_WRITERS: dict[type[ast.AST], Callable[[_Reading, Any], None]] = {
    ast.Name: _Reading._name,
    ast.Attribute: _Reading._attribute,
    ast.Constant: _Reading._constant,
    ast.Call: _Reading._call,
    ast.arg: _Reading._argument,
    ast.FunctionDef: _Reading._function,
    ast.AsyncFunctionDef: _Reading._function,
    ast.ClassDef: _Reading._class,
    ast.AnnAssign: _Reading._annotated,
    ast.Import: _Reading._import,
    ast.ImportFrom: _Reading._import,
    ast.ExceptHandler: _Reading._binding,
    ast.MatchAs: _Reading._binding,
    ast.MatchStar: _Reading._binding,
    ast.MatchMapping: _Reading._binding,
    ast.Global: _Reading._global,
}
