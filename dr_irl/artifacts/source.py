"""The identity of code: hashes of what an artifact's maker can reach, definition by definition, across packages."""

import hashlib
from collections.abc import Collection, Mapping

from dr_irl.artifacts.modules import DATA, data_files, module
from dr_irl.artifacts.reach import Graph, Node, Scope
from dr_irl.artifacts.syntax import Piece

_REFLECTIVE = frozenset(
    {"__annotations__", "__doc__", "get_annotations", "get_type_hints", "getdoc", "getsource", "signature"}
)
"""Who uses one of these may read docstrings or annotations, which then count in all that is reached."""


class Code:
    """The code of some packages, as far as it shapes artifacts. Nothing is imported for it; all is read once."""

    def __init__(
        self, packages: Collection[str], *, left_out: Collection[str] = (), by_value: Collection[str] = ()
    ) -> None:
        """Read nothing yet.

        Args:
            packages: followed; of whatever else is imported the name counts.
            left_out: modules, with all below them, of which only constants count; and data, as `package/folder`.
            by_value: modules of classes whose objects count elsewhere, by their values: of these only methods do here,
                where something takes an attribute of that name, or makes an object.
        """
        scope = Scope(frozenset(packages), frozenset(left_out), tuple(by_value))
        self._scope, self._plain, self._verbatim = scope, Graph(scope), Graph(scope, verbatim=True)

    def reached(self, *locations: str) -> dict[str, str]:
        """Hash what functions or classes, each `module:name`, can reach together.

        Returns:
            Module, or path of a package's data -> 16 hex digits.

        Raises:
            ModuleNotFoundError: there is no such module.
            AttributeError: the module defines no such function.
        """
        roots = [_root(location) for location in locations]
        found = self._reachable(self._plain, roots)
        if any(_REFLECTIVE & (piece.uses | piece.attributes | piece.strings) for piece in found.values()):
            found = self._reachable(self._verbatim, roots)
        return dict(sorted((_hashes_of_code(found) | self._hashes_of_data(found)).items()))

    @staticmethod
    def _reachable(graph: Graph, roots: Collection[Node]) -> dict[Node, Piece]:
        return {node: piece for root in roots for node, piece in graph.reachable(root).items()}

    def _hashes_of_data(self, found: Mapping[Node, Piece]) -> dict[str, str]:
        files = [files for home, name in found if name == DATA for files in data_files(home).items()]
        return {name: _hash(path.read_bytes()) for name, path in files if not self._scope.is_left_out(name, "/")}


def _root(location: str) -> Node:
    home, _, name = location.partition(":")
    if not module(home).defines(name):
        raise AttributeError(f"cannot fingerprint {location!r}: {home} defines no {name!r}")
    return home, name


def _hashes_of_code(found: Mapping[Node, Piece]) -> dict[str, str]:
    texts: dict[str, list[str]] = {}
    for (home, name), piece in sorted(found.items(), key=lambda item: item[0]):
        if piece.text:
            texts.setdefault(home, []).append(f"{name}: {piece.text}")
    return {home: _hash("\n".join(lines).encode()) for home, lines in texts.items()}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
