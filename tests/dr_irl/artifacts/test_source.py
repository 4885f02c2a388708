"""Which changes of code count for an artifact's identity."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dr_irl.artifacts import source
from dr_irl.artifacts.source import function_hash, module_hashes

FILES = {
    "__init__": "",
    "top": "from throwaway.middle import half\nimport json\n\ndef top():\n    return half()\n",
    "middle": (
        "from throwaway.errors import MESSAGE\n\ndef half():\n    from throwaway import deep\n    return deep.VALUE\n"
    ),
    "deep": "VALUE = 1\n",
    "apart": "OTHER = 1\n",
    "errors": "MESSAGE = 'no'\n",
    "stages": (
        "from throwaway.apart import OTHER as LEFT\nfrom throwaway.pipes import flow\n"
        "LIMIT = 3\n\ndef make():\n    return flow(_cut(LIMIT))\n\ndef _cut(n):\n    from throwaway.deep import VALUE\n"
        "    return n - VALUE\n\ndef other():\n    return LEFT + 1\n"
    ),
    "pipes": "def flow(n):\n    return n\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write package `throwaway`, some of whose files are as given."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(source, "_PACKAGE", "throwaway")
    (tmp_path / "throwaway").mkdir()

    def write(**changes: str) -> None:
        for name, text in (FILES | changes).items():
            (tmp_path / "throwaway" / f"{name}.py").write_text(text)
        for name in [module for module in sys.modules if module.split(".")[0] == "throwaway"]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        for cached in (source._tree, source._imports, source._own_imports, source._definitions, source._module_hash):
            cached.cache_clear()

    return write


def modules_that_differ(package: Callable[..., None], **changes: str) -> set[str]:
    package()
    before = module_hashes(["throwaway.top"])
    package(**changes)
    after = module_hashes(["throwaway.top"])
    return {name for name in before | after if before.get(name) != after.get(name)}


def function_differs(package: Callable[..., None], old: str, new: str, *, of: str = "stages") -> bool:
    package()
    before = function_hash("throwaway.stages:make", plumbing=["throwaway.pipes"])
    package(**{of: FILES[of].replace(old, new)})
    return function_hash("throwaway.stages:make", plumbing=["throwaway.pipes"]) != before


def test_comments_and_layout_do_not_count(package: Callable[..., None]) -> None:
    assert modules_that_differ(package, deep="# why it is one\n\n\nVALUE   =  (1)\n") == set()


def test_a_changed_module_is_named(package: Callable[..., None]) -> None:
    changed = FILES["top"].replace("half()\n", "-half()\n")
    assert modules_that_differ(package, top=changed) == {"throwaway.top"}


def test_a_changed_module_that_is_reached_by_import_is_named(package: Callable[..., None]) -> None:
    # `deep` is two imports away, and imported inside a function
    assert modules_that_differ(package, deep="VALUE = 2\n") == {"throwaway.deep"}


def test_a_changed_module_that_is_not_reached_does_not_count(package: Callable[..., None]) -> None:
    assert modules_that_differ(package, apart="OTHER = 2\n") == set()


def test_how_an_error_reads_does_not_count(package: Callable[..., None]) -> None:
    assert modules_that_differ(package, errors="MESSAGE = 'never'\n") == set()


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"dr_irl\.nowhere"):
        module_hashes(["dr_irl.nowhere"])


@pytest.mark.parametrize(("old", "new"), [("_cut(LIMIT)", "-_cut(LIMIT)"), ("return n", "return -n "), ("3", "4")])
def test_a_function_counts_with_what_it_uses_of_its_module(package: Callable[..., None], old: str, new: str) -> None:
    assert function_differs(package, old, new)


@pytest.mark.parametrize(("old", "new"), [("+ 1", "+ 2"), ("LIMIT = 3", "LIMIT = 3  # three")])
def test_what_a_function_does_not_use_does_not_count(package: Callable[..., None], old: str, new: str) -> None:
    assert not function_differs(package, old, new)


def test_a_function_counts_with_what_it_imports_from_its_package(package: Callable[..., None]) -> None:
    assert function_differs(package, "1", "2", of="deep")


def test_what_the_module_imports_for_another_function_does_not_count(package: Callable[..., None]) -> None:
    assert not function_differs(package, "1", "2", of="apart")


def test_plumbing_does_not_count(package: Callable[..., None]) -> None:
    assert not function_differs(package, "return n", "return -n", of="pipes")


def test_an_unknown_function_is_named() -> None:
    with pytest.raises(AttributeError, match=r"dr_irl\.seeding defines no 'nothing'"):
        function_hash("dr_irl.seeding:nothing")
