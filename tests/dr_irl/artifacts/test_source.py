"""Which changes of code count for an artifact's identity."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dr_irl.artifacts import modules
from dr_irl.artifacts.source import Code

FILES = {
    "ours/__init__.py": "",
    "ours/stages.py": """
import math
import ours.deep as deep
from functools import cache
from ours import tools
from ours.pipes import LIMIT, flow
from ours.rows import Row
from ours.given import Settings

FACTOR = 3
NAMES = {}
NAMES["one"] = 1
import ours.acting

def make(settings: Settings, row: "Row | None" = None) -> float:
    '''Make it.'''
    count: int = tools.half(FACTOR)
    return flow(_cut(count)) + deep.VALUE + settings.total + LIMIT

def _cut(n):
    from ours.late import LATE
    return math.floor(n) - LATE

def other():
    from ours.apart import OTHER
    return OTHER

@cache
def shared():
    return 1
""",
    "ours/tools.py": "def half(n):\n    return n / 2\n\ndef twice(n):\n    return n * 2\n",
    "ours/deep.py": "VALUE = 1\nUNUSED = 1\n",
    "ours/late.py": "LATE = 1\n",
    "ours/apart.py": "OTHER = 1\n",
    "ours/pipes.py": "LIMIT = 1\n\ndef flow(n):\n    return n\n",
    "ours/acting.py": "import os\nos.environ['ours'] = '1'\nVALUE = 1\n",
    "ours/rows.py": (
        "from dataclasses import dataclass\n\nclass Base:\n    pass\n\n"
        "@dataclass\nclass Row(Base):\n    '''A row.'''\n    size: int = 0\n\n"
        "    def area(self) -> int:\n        return 1\n"
    ),
    "ours/given.py": (
        "from pydantic import BaseModel\n\nclass Settings(BaseModel):\n    size: int = 1\n\n    @property\n"
        "    def total(self):\n        return self.size\n\n    def unused(self):\n        return 0\n"
    ),
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, str]]]:
    """Write package `ours` with some files changed, and hash what `ours.stages:make` can reach."""
    monkeypatch.syspath_prepend(tmp_path)

    def hashes(changes: dict[str, str] | None = None) -> dict[str, str]:
        for name, text in (FILES | (changes or {})).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        modules.source_file.cache_clear()
        modules.source_text.cache_clear()
        code = Code(["ours"], left_out=["ours.pipes", "ours/seed"], by_value=["ours.given"])
        return code.reached("ours.stages:make")

    yield hashes
    modules.source_file.cache_clear()
    modules.source_text.cache_clear()


Package = Callable[..., dict[str, str]]


def changed(package: Package, file: str, old: str, new: str, others: dict[str, str] | None = None) -> set[str]:
    """Return what counts differently after an edit of a file; `others` are files that are as given before and after."""
    base = others or {}
    text = (FILES | base)[file]
    assert old in text
    before, after = package(base), package(base | {file: text.replace(old, new)})
    return {name for name in before | after if before.get(name) != after.get(name)}


STAGES = "ours/stages.py"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FACTOR = 3", "FACTOR  =  (3)  # three\n"),
        ("'''Make it.'''", "'''Make it anew.'''"),
        ("'''Make it.'''", ""),
        ("-> float", "-> int"),
        ("settings: Settings", "settings: Settings | None"),
        (": Settings", ": 'Settings'"),
        ("count: int =", "count ="),
        ("count: int", "count: float"),
        ("FACTOR = 3", "FACTOR: int = 3"),
        ("FACTOR = 3", "if TYPE_CHECKING:\n    from ours.apart import Unknown\n\nFACTOR = 3"),
    ],
)
def test_comments_docstrings_and_annotations_do_not_count(package: Package, old: str, new: str) -> None:
    assert changed(package, STAGES, old, new) == set()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (STAGES, "flow(_cut", "-flow(_cut"),
        (STAGES, "return math", "return -math"),
        (STAGES, "FACTOR = 3", "FACTOR = 4"),
        (STAGES, "import math", "import cmath as math"),
        (STAGES, "from ours import tools", "from ours import tools2 as tools"),
        ("ours/tools.py", "n / 2", "n / 3"),
        ("ours/deep.py", "VALUE = 1", "VALUE = 2"),
        ("ours/late.py", "1", "2"),
        ("ours/pipes.py", "LIMIT = 1", "LIMIT = 2"),
        ("ours/acting.py", "'1'", "'2'"),
        ("ours/given.py", "return self.size", "return -self.size"),
    ],
)
def test_what_the_maker_reaches_counts_and_its_module_is_named(package: Package, file: str, old: str, new: str) -> None:
    module = file.removesuffix(".py").replace("/", ".")
    assert module in changed(package, file, old, new, {"ours/tools2.py": "def half(n):\n    return n\n"})


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (STAGES, "return OTHER", "return -OTHER"),
        (STAGES, "return 1", "return 2"),
        ("ours/apart.py", "1", "2"),
        ("ours/tools.py", "n * 2", "n * 3"),
        ("ours/deep.py", "UNUSED = 1", "UNUSED = 2"),
        ("ours/acting.py", "VALUE = 1", "VALUE = 2"),
        ("ours/rows.py", "return 1", "return 2"),
    ],
)
def test_what_the_maker_does_not_reach_does_not_count(package: Package, file: str, old: str, new: str) -> None:
    assert changed(package, file, old, new) == set()


def test_of_what_is_left_out_functions_do_not_count(package: Package) -> None:
    assert changed(package, "ours/pipes.py", "return n", "return -n") == set()


def test_of_classes_that_count_by_value_only_methods_do_that_are_called(package: Package) -> None:
    assert changed(package, "ours/given.py", "return 0", "return 1") == set()


@pytest.mark.parametrize(
    ("old", "new", "counts"), [("size: int = 1", "size: int = 2", False), ("return 0", "return 1", True)]
)
def test_of_classes_that_count_by_value_all_methods_do_where_an_object_is_made(
    package: Package, old: str, new: str, counts: bool
) -> None:
    making = {STAGES: with_body("return Settings(size=settings)", "from ours.given import Settings")}
    assert changed(package, "ours/given.py", old, new, making) == ({"ours.given"} if counts else set())


def with_body(body: str, imports: str = "") -> str:
    """Return a module of stages whose maker does this."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"{imports}\n\ndef make(settings):\n{lines}"


@pytest.mark.parametrize(
    ("imports", "body", "file", "old", "new"),
    [
        # classes count whole, with what they are made from and their fields
        ("from ours.rows import Row", "return Row()", "ours/rows.py", "return 1", "return 2"),
        ("from ours.rows import Row", "return Row()", "ours/rows.py", "    pass", "    size = 1"),
        ("from ours.rows import Row", "return Row()", "ours/rows.py", "size: int", "size: float"),
        # a module that is handed on, or asked for what it does not define, counts whole
        ("from ours import deep", "return getattr(deep, settings)", "ours/deep.py", "UNUSED = 1", "UNUSED = 2"),
        ("from ours import deep", "return deep.missing", "ours/deep.py", "UNUSED = 1", "UNUSED = 2"),
        ("import ours.deep", "return ours.deep.VALUE", "ours/deep.py", "VALUE = 1", "VALUE = 2"),
        ("from .deep import VALUE", "return VALUE", "ours/deep.py", "VALUE = 1", "VALUE = 2"),
        ("from ours.deep import *", "return VALUE", "ours/deep.py", "VALUE = 1", "VALUE = 2"),
        # names of code in texts
        ("", "return ['-m', 'ours.deep']", "ours/deep.py", "UNUSED = 1", "UNUSED = 2"),
        ("", "return 'ours.tools:half'", "ours/tools.py", "n / 2", "n / 3"),
        ("", "return 'ours.tools.half'", "ours/tools.py", "n / 2", "n / 3"),
        # nobody knows what these reach
        ("import importlib", "return importlib.import_module(settings)", "ours/apart.py", "1", "2"),
        ("", "return eval(settings)", "ours/apart.py", "1", "2"),
        ("", "return f'ours.{settings}'", "ours/apart.py", "1", "2"),
        # code that reads docstrings and annotations
        ("from ours.rows import Row", "return Row.__doc__", "ours/rows.py", "A row.", "One row."),
        (
            "from inspect import signature\nfrom ours.rows import Row",
            "return signature(Row.area)",
            "ours/rows.py",
            "-> int",
            "-> str",
        ),
        # methods of objects that count by value, called by a name that is known at run time only
        ("", "return getattr(settings, name)", "ours/given.py", "return 0", "return 1"),
        ("", "return getattr(settings, 'unused')", "ours/given.py", "return 0", "return 1"),
    ],
)
def test_a_roundabout_use_counts(package: Package, imports: str, body: str, file: str, old: str, new: str) -> None:
    assert changed(package, file, old, new, {"ours/stages.py": with_body(body, imports)})


def test_a_module_that_hands_on_its_own_name_counts_as_the_program_that_it_is(package: Package) -> None:
    program = with_body("return ['-m', __name__]") + "\nif __name__ == '__main__':\n    print(1)\n"
    assert changed(package, STAGES, "print(1)", "print(2)", {"ours/stages.py": program}) == {"ours.stages"}


def test_how_a_module_runs_as_a_program_does_not_count_otherwise(package: Package) -> None:
    program = FILES[STAGES] + "\nif __name__ == '__main__':\n    print(1)\n"
    assert changed(package, STAGES, "print(1)", "print(2)", {"ours/stages.py": program}) == set()


def test_a_name_that_a_package_hands_on_is_followed(package: Package) -> None:
    others = {
        "ours/__init__.py": "from ours.tools import half\n",
        STAGES: with_body("return half(1)", "from ours import half"),
    }
    assert changed(package, "ours/tools.py", "n / 2", "n / 3", others) == {"ours.tools"}


@pytest.mark.parametrize("decorator", ["registered", "tools.twice"])
def test_a_function_that_is_decorated_on_import_counts(package: Package, decorator: str) -> None:
    text = f"from ours import tools\nfrom elsewhere import registered\n@{decorator}\ndef unused():\n    return 1\n"
    assert changed(package, "ours/acting.py", "return 1", "return 2", {"ours/acting.py": text}) == {"ours.acting"}


def test_what_an_acting_statement_uses_counts(package: Package) -> None:
    text = "from ours import tools\nTABLE = [tools.twice(1)]\n"
    assert changed(package, "ours/tools.py", "n * 2", "n * 3", {"ours/acting.py": text}) == {"ours.tools"}


def test_what_is_imported_for_its_effect_counts(package: Package) -> None:
    text = "import os\nimport rich.traceback as unnamed\nVALUE = os.sep\n"
    assert changed(package, "ours/acting.py", "rich.traceback", "rich.pretty", {"ours/acting.py": text}) == {
        "ours.acting"
    }


def test_annotations_count_where_a_decorator_may_read_them(package: Package) -> None:
    text = "from elsewhere import checked\n@checked\ndef half(n: int):\n    return n\n"
    assert changed(package, "ours/tools.py", "n: int", "n: str", {"ours/tools.py": text}) == {"ours.tools"}


def test_a_text_that_names_nothing_that_is_there_reaches_nothing(package: Package) -> None:
    text = {"ours/stages.py": with_body("return 'ours.judges'"), "ours/__init__.py": "FIRST = 1\n"}
    assert changed(package, "ours/__init__.py", "1", "2", text) == set()


def test_a_function_local_import_is_no_other_functions(package: Package) -> None:
    text = with_body("from ours.late import LATE as value\nreturn value") + (
        "\ndef other():\n    from ours.apart import OTHER as value\n    return value\n"
    )
    assert changed(package, "ours/late.py", "1", "2", {"ours/stages.py": text}) == {"ours.late"}


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A package inside the package that looks for the files beside it."""
    folder = tmp_path / "ours" / "shown"
    (folder / "inner").mkdir(parents=True)
    for name in ("page.jinja", "inner/__init__.py", "inner/apart.jinja"):
        (folder / name).write_text("")
    (tmp_path / "ours" / "seed").mkdir()
    return folder


BESIDE = "ours/shown/__init__.py"
LOADERS = {
    "by name": {BESIDE: "", STAGES: with_body("return PackageLoader('ours.shown')")},
    "by place": {
        BESIDE: "def page():\n    return open(__file__)\n",
        STAGES: with_body("return page()", "from ours.shown import page"),
    },
    "by object": {BESIDE: "", STAGES: with_body("return files(shown)", "from ours import shown")},
}


@pytest.mark.parametrize("others", LOADERS.values(), ids=list(LOADERS))
def test_data_of_a_package_that_is_reached_count(package: Package, data: Path, others: dict[str, str]) -> None:
    before = package(others)
    (data / "page.jinja").write_text("<p>")
    (data / "inner" / "apart.jinja").write_text("<p>")
    after = package(others)
    assert {name for name in after if before[name] != after[name]} == {"ours/shown/page.jinja"}


def test_files_beside_a_lone_module_are_those_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alone.py").write_text("def make():\n    return open(__file__)\n")
    (tmp_path / "others.txt").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert set(Code({"alone"}).reached("alone:make")) == {"alone"}


def test_functions_reach_together_what_each_of_them_does(package: Package) -> None:
    package({})
    code = Code({"ours"})
    together = code.reached("ours.stages:make", "ours.stages:other")
    assert set(together) == {*code.reached("ours.stages:make"), *code.reached("ours.stages:other")}
    assert together["ours.stages"] != code.reached("ours.stages:make")["ours.stages"]


def test_data_that_are_left_out_do_not_count(package: Package, tmp_path: Path, data: Path) -> None:
    (tmp_path / "ours" / "seed" / "rows.jsonl").write_text("{}")
    assert "ours/seed/rows.jsonl" not in package({STAGES: with_body("return files('ours')")})


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"dr_irl\.nowhere"):
        Code(["dr_irl"]).reached("dr_irl.nowhere:nothing")


def test_an_unknown_function_is_named() -> None:
    with pytest.raises(AttributeError, match=r"dr_irl\.seeding defines no 'nothing'"):
        Code(["dr_irl"]).reached("dr_irl.seeding:nothing")


def test_a_module_is_parsed_again_where_python_mistakes_another_threads_tree_for_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parse, faults = ast.parse, [SystemError("AST constructor recursion depth mismatch (before=69, after=96)")] * 2

    def fail_at_first(text: str) -> ast.Module:
        if faults:
            raise faults.pop()
        return parse(text)

    monkeypatch.setattr(modules.ast, "parse", fail_at_first)
    assert modules.Module("ours", "VALUE = 1\n", verbatim=False).defines("VALUE")
    assert faults == []
