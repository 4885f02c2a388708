"""Which definitions use which, across modules and packages, as far as the names in them tell.

Where a name cannot be resolved, the whole module counts; where it cannot be known what is reached, everything does.
"""

import builtins
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from dr_irl.artifacts.modules import DATA, EFFECTS, Module, is_package, module, source_file, submodules
from dr_irl.artifacts.syntax import ANY, Piece

Node = tuple[str, str]
"""A module, and a name there, or one of `EFFECTS`, `MAIN`, `DATA` and `ANY`, which is all of it."""

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*)?")
_BOUNDLESS_NAMES = frozenset({"__import__", "eval", "exec", "globals"})
_BOUNDLESS = frozenset(
    {"__globals__", "__init_subclass__", "__subclasses__", "entry_points", "import_module", "run_module", "run_path"}
)
"""Who uses one of these may reach anything."""
_BESIDE = frozenset({"__file__", "__loader__", "__package__", "__path__", "__spec__"})
"""Who uses one of these may look for data beside the module."""


@dataclass(frozen=True)
class Scope:
    """What is followed, and what is not."""

    packages: frozenset[str]
    left_out: frozenset[str]
    """Modules, with all below them, of which only constants count; and folders of data, `package/folder`."""
    by_value: tuple[str, ...]
    """Modules of whose classes only methods count: where something takes such an attribute, or makes an object."""

    def is_left_out(self, name: str, separator: str = ".") -> bool:
        """Tell whether a module or file is left out, by itself or with what it is in."""
        parts = name.split(separator)
        alone = f"{name}{separator}__init__" in self.left_out
        return alone or any(separator.join(parts[:end]) in self.left_out for end in range(1, len(parts) + 1))


class Graph:
    """Definitions as nodes, and from each to those that it uses. What was read once is not read again."""

    def __init__(self, scope: Scope, *, verbatim: bool = False) -> None:
        """Read nothing yet; with `verbatim`, docstrings and annotations count."""
        self._scope, self._verbatim = scope, verbatim
        self._modules: dict[str, Module] = {}
        self._after: dict[Node, tuple[Node, ...]] = {}
        self._loads: dict[str, list[Node]] = {}

    def reachable(self, start: Node) -> Mapping[Node, Piece]:
        """Return everything that can be reached from a definition."""
        found: dict[Node, Piece] = {}
        pending, named = [start], set[str]()
        while pending:
            node = pending.pop()
            if node not in found:
                found[node] = piece = self._module(node[0]).piece(node[1])
                named |= piece.attributes | (piece.strings - {ANY})  # "*" is also a pattern of files
                if node not in self._after:
                    self._after[node] = tuple(dict.fromkeys(self._from(node, piece)))
                pending += self._after[node]
            pending = pending or [each for each in self._called(named) if each not in found]
        return found

    def _module(self, name: str) -> Module:
        if name not in self._modules:
            self._modules[name] = module(name, verbatim=self._verbatim)
        return self._modules[name]

    def _from(self, node: Node, piece: Piece) -> Iterator[Node]:
        home, name = node
        yield from self._loaded(home)
        if name == ANY:
            for each in self._module(home).names:
                yield from self._definition(home, each)
        if name == EFFECTS:
            yield from self._effects(self._module(home), home)
        for each in piece.imports:
            yield from self._loaded(each.loads)
        for chain in piece.uses:
            yield from self._used(home, chain, piece)
        for text in piece.strings:
            if _DOTTED.fullmatch(text) and self._is_there(text.replace(":", ".")):
                yield from self._target(text.replace(":", "."))
        if self._is_boundless(piece):
            for each in (each for package in self._scope.packages for each in submodules(package)):
                yield from self._whole(each)

    def _effects(self, known: Module, home: str) -> Iterator[Node]:
        """Return what happens when a module is imported, besides what it does namelessly."""
        for name in known.acting:
            yield from self._definition(home, name)
        for each in (each for found in known.imports.values() for each in found):
            yield from self._target(each.target) if each.name == ANY else self._loaded(each.loads)

    def _used(self, home: str, chain: str, piece: Piece) -> Iterator[Node]:
        """Return what a piece of a module means by a name with its attributes."""
        first, _, rest = chain.partition(".")
        inside = [each for each in piece.imports if each.name == first]
        for each in inside:
            yield from self._target(f"{each.target}.{rest}".rstrip("."))
        if first in self._module(home).names:
            yield from self._there(home, chain)
        elif first in _BESIDE:  # a package's files are its own; a lone module lies among those of others
            if package := home if is_package(home) else home.rpartition(".")[0]:
                yield package, DATA
        elif not inside and first not in piece.bound and (first == "__name__" or not hasattr(builtins, first)):
            yield from self._whole(home)

    def _there(self, home: str, chain: str) -> Iterator[Node]:
        """Return what a name with its attributes stands for in a module."""
        first, _, rest = chain.partition(".")
        known = self._module(home)
        if first not in known.names:
            yield from self._whole(home)
        yield from self._definition(home, first)
        if home in self._scope.by_value and known.is_class(first):  # who names it may make one, which is then checked
            yield from (each for each, _ in self._methods())
        for each in known.imports.get(first, ()):
            if each.target != f"{home}.{first}":
                yield from self._target(f"{each.target}.{rest}".rstrip("."))

    def _target(self, dotted: str) -> Iterator[Node]:
        """Return what a full name stands for."""
        parts = dotted.split(".")
        if parts[0] not in self._scope.packages:
            return
        end = next((end for end in range(len(parts), 0, -1) if source_file(".".join(parts[:end]))), 0)
        home, package, rest = ".".join(parts[:end]), ".".join(parts[: end - 1]), ".".join(parts[end:])
        yield from self._loaded(home)
        yield from self._there(home, rest) if rest else self._whole(home)
        if package and parts[end - 1] in self._module(package).names:  # there the name may be of something else
            yield from self._there(package, ".".join(parts[end - 1 :]))

    def _is_there(self, dotted: str) -> bool:
        """Tell whether a full name stands for something; `dr_irl.judges`, a group of entry points, does not."""
        parts = dotted.split(".")
        if parts[0] not in self._scope.packages:
            return False
        end = next((end for end in range(len(parts), 0, -1) if source_file(".".join(parts[:end]))), 0)
        names = self._module(".".join(parts[:end])).names
        return end == len(parts) or parts[end] in names or "__getattr__" in names

    def _definition(self, home: str, name: str) -> Iterator[Node]:
        known = self._module(home)
        if self._scope.is_left_out(home) and not known.is_constant(name):
            return
        if home not in self._scope.by_value or not known.is_class(name):
            yield home, name

    def _whole(self, home: str) -> Iterator[Node]:
        if not self._scope.is_left_out(home):
            yield home, ANY
            yield from [(home, DATA)] if is_package(home) else []

    def _loaded(self, dotted: str) -> list[Node]:
        """Return the modules that are imported with one, which act then: itself, and the packages that it is in."""
        if dotted not in self._loads:
            parts = dotted.split(".")
            ends = range(1, len(parts) + 1 if parts[0] in self._scope.packages else 0)
            homes = [home for home in (".".join(parts[:end]) for end in ends) if source_file(home)]
            self._loads[dotted] = [(home, EFFECTS) for home in homes if not self._scope.is_left_out(home)]
        return self._loads[dotted]

    def _called(self, named: Collection[str]) -> Iterator[Node]:
        """Return the methods of objects that count by value, as far as their names come up."""
        for each, name in self._methods():
            if name in named or (ANY in named and not name.startswith("_")):
                yield each

    def _methods(self) -> Iterator[tuple[Node, str]]:
        for home in self._scope.by_value:
            for qualified, name in self._module(home).methods.items():
                yield (home, qualified), name

    def _is_boundless(self, piece: Piece) -> bool:
        """Tell whether a piece may reach anything: it names modules when it runs, or by how they begin."""
        named = bool(_BOUNDLESS_NAMES & piece.uses or _BOUNDLESS & (piece.uses | piece.attributes | piece.bound))
        return named or any(s.endswith(".") and s.split(".")[0] in self._scope.packages for s in piece.strings)
