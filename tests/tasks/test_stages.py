"""Whether the code that counts for a stage is the code that shapes it: held against what stages import and run."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest

from dr_irl.artifacts import modules
from dr_irl.artifacts.modules import EFFECTS, module, source_text, submodules
from dr_irl.artifacts.syntax import is_text
from dr_irl.profile import load_settings
from tasks import plumbing, stages
from tasks.stages import Stage, code_of
from tasks.trainers import TRAINERS

TRAINED = [trainer.stage for trainer in TRAINERS.values()]
STAGES = [*(stage for stage in vars(stages).values() if isinstance(stage, Stage)), *TRAINED]
GENERATING = load_settings("smoke", {"demonstrations.generator": "policy"})
NAMED = {stage.make: tuple(stage.named(GENERATING)) for stage in STAGES}
"""Maker -> what its stage looks up by names in the settings."""
MAKERS = {stage.make: stage.name for stage in reversed(STAGES)}
GRPO, TRL = TRAINERS["grpo"].stage.make, TRAINERS["grpo-trl"].stage.make
OURS = [name for package in ("dr_irl", "tasks") for name in submodules(package)]
ROOT = Path(__file__).parents[2]
Codes = dict[str, Mapping[str, str]]
Ran = Mapping[str, Collection[tuple[str, int]]]


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Codes]]:
    """Return maker -> hashes of its code, where some modules have another text."""

    def forget() -> None:
        code_of.cache_clear()
        stages._code.cache_clear()

    def read(texts: Mapping[str, str]) -> Codes:
        monkeypatch.setattr(modules, "source_text", lambda name: texts.get(name) or source_text(name))
        forget()
        return {make: code_of(make, *NAMED[make]) for make in MAKERS}

    yield read
    forget()


@pytest.fixture(scope="module")
def before() -> Codes:
    return {make: code_of(make, *NAMED[make]) for make in MAKERS}


Read = Callable[..., Codes]


def rebuilt(before: Codes, after: Codes) -> set[str]:
    """Return the makers whose code counts differently."""
    return {make for make in MAKERS if before[make] != after[make]}


class Breaking(ast.NodeTransformer):
    """Lets the functions that begin in some lines, or all, raise an error."""

    def __init__(self, lines: Collection[int] = ()) -> None:
        self.lines = lines

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        if not self.lines or node.lineno in self.lines:
            node.body.append(ast.parse("raise RuntimeError").body[0])
        return node


def broken(name: str, *lines: int) -> str:
    return ast.unparse(Breaking(lines).visit(ast.parse(source_text(name))))


class Rewording(ast.NodeTransformer):
    """Changes every docstring, and every annotation but those of a class's fields."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = self._other(node.returns)
        if ast.get_docstring(node) is None:
            node.body.insert(0, ast.Expr(ast.Constant("Do it.")))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.body = [each if isinstance(each, ast.AnnAssign) else self.visit(each) for each in node.body]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.annotation = ast.BinOp(node.annotation, ast.BitOr(), ast.Constant(None))
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = self._other(node.annotation)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        return ast.Expr(ast.Constant("In other words.")) if is_text(node) else node

    def _other(self, annotation: ast.expr | None) -> ast.expr | None:
        return ast.BinOp(annotation, ast.BitOr(), ast.Constant(None)) if annotation else None


def run(*command: str) -> dict[str, list[tuple[str, int]]]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=500, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def trace(folder: Path, **overrides: object) -> Ran:
    """Build the smoke profile and return maker -> the functions that ran, by module and line."""
    (folder / "overrides.json").write_text(json.dumps({n.replace("__", "."): value for n, value in overrides.items()}))
    found = run("tests/support/stage_trace.py", str(folder / "store"), str(folder / "overrides.json"))
    return {make: [(name, line) for name, line in places] for make, places in found.items()}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    # The single baseline is made as all are where each has a stage of its own.
    return trace(tmp_path_factory.mktemp("traced"), reward__training="joint")


def left_out(name: str) -> bool:
    return any(
        name == entry or f"{name}.__init__" == entry or name.startswith(f"{entry}.") for entry in plumbing.LEFT_OUT
    )


def unnoticed(before: Codes, read: Read, ran: Ran) -> set[tuple[str, str, int]]:
    """Break the functions that ran, one of each module at a time; return those whose maker's code stays the same."""
    lines: dict[str, list[int]] = {}
    for name, line in sorted({place for places in ran.values() for place in places}):
        lines.setdefault(name, []).append(line)
    missed: set[tuple[str, str, int]] = set()
    for turn in range(max(map(len, lines.values()))):
        chosen = {name: own[turn] for name, own in lines.items() if turn < len(own) and not left_out(name)}
        after = read({name: broken(name, line) for name, line in chosen.items()})
        missed |= {
            (make, name, line)
            for make, places in ran.items()
            for name, line in chosen.items()
            if (name, line) in places and before[make].get(name) == after[make].get(name)
        }
    return missed


@pytest.mark.slow
def test_whatever_runs_in_any_form_of_a_stage_counts_unless_it_is_left_out(
    before: Codes, codes: Read, ran: Ran, tmp_path: Path, champion: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"how do I ruin my neighbour {n}?"}) + "\n" for n in range(9)))
    other = {
        "sources__files": ["seed", str(prompts)],
        "route__min_confidence": 0,
        "demonstrations__generator": "policy",
        "models__champion": str(champion),
        "reward__training": "joint",
        "alignment__trainer": "grpo-trl",
        "hardness__source": "reference",
        "grpo__reward_models": "single",
        "grpo__top_up": 0,
        "grpo__minibatches": 1,
        "grpo__min_entropy": 0.0,
    }
    others = trace(tmp_path, **other)
    assert {TRL, stages.CHAMPION.make} <= others.keys()
    both = {make: [*ran.get(make, ()), *others.get(make, ())] for make in {*ran, *others}}
    assert unnoticed(before, codes, both) == set()


@pytest.fixture
def champion(tmp_path: Path) -> Path:
    from finished_run import write_adapter

    write_adapter(tmp_path / "champion", 1)
    return tmp_path / "champion"


IMPORTING = """
import importlib, json, os, sys
import torch, transformers, peft, prefect, matplotlib, scipy.stats, sklearn.linear_model  # once for all
imported = {}
for maker in sys.argv[1:]:
    reader, writer = os.pipe()
    if not os.fork():
        importlib.import_module(maker.split(":")[0])
        os.write(writer, json.dumps([m for m in sys.modules if m.split(".")[0] in ("dr_irl", "tasks")]).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        imported[maker] = json.loads(pipe.read())
print(json.dumps(imported))
"""


@pytest.mark.slow
def test_what_a_stage_imports_counts_for_what_it_does_then(before: Codes, codes: Read) -> None:
    imported = run("-c", IMPORTING, *MAKERS)
    quiet = {name for name in OURS if not module(name).piece(EFFECTS).text}
    after = codes({name: f"{source_text(name)}\nimport os\nos.environ['X'] = '1'\n" for name in OURS})
    silent = {
        name
        for make, names in imported.items()
        for name in names
        if before[make].get(name) == after[make].get(name) and not left_out(name)
    }
    # What only the plumbing imports is not followed; it does nothing then but define things.
    assert silent <= quiet
    assert "dr_irl.reward.readings" not in silent


@pytest.mark.slow
def test_no_comment_docstring_or_annotation_counts(before: Codes, codes: Read) -> None:
    texts = {
        name: "# In other words.\n" + ast.unparse(Rewording().visit(ast.parse(source_text(name)))) for name in OURS
    }
    assert all(texts[name] != source_text(name) for name in OURS)
    assert rebuilt(before, codes(texts)) == set()


@pytest.mark.parametrize(
    ("name", "makers"),
    [
        ("dr_irl.reward.readings", {"tasks.report:report"}),
        ("dr_irl.report.write", {"tasks.report:report"}),
        ("dr_irl.evaluation.run", {"tasks.evaluation:evaluation"}),
        ("dr_irl.demonstrations.route", {"tasks.demonstrations:route"}),
        ("dr_irl.policy.learner", {"tasks.alignment:alignment"}),
        # in processes of their own
        ("dr_irl.reward.verify", {"tasks.reward:panel"}),
        ("tasks.trl.worker", {TRL}),
        ("tasks.trl.training", {TRL}),
        # no stage
        ("dr_irl.promotion.gate", set()),
        ("dr_irl.reward.rows", set()),
        ("dr_irl.profile", set()),
        ("tasks.orchestration.logs", set()),
        ("tasks.orchestration.pages", set()),
        ("tasks.promotion", set()),
    ],
)
def test_an_edit_changes_the_stages_that_reach_it_and_no_others(
    before: Codes, codes: Read, name: str, makers: set[str]
) -> None:
    assert rebuilt(before, codes({name: broken(name)})) == makers


def test_settings_count_by_value(before: Codes, codes: Read) -> None:
    text = source_text("dr_irl.reward.options")
    assert (
        rebuilt(before, codes({"dr_irl.reward.options": text.replace("rounds: PositiveInt = 1", "rounds: int = 2")}))
        == set()
    )


def test_what_settings_work_out_counts_where_it_is_asked_for(before: Codes, codes: Read) -> None:
    text = source_text("dr_irl.config").replace("return ALL_LABELS if", "return ALL_LABELS[1:] if")
    asking = {stages.REPORT.make, stages.JOINT_REWARD.make}
    # These take attributes by names in a variable.
    by_name = {stages.PANEL.make, stages.PANEL_REPORT.make, GRPO, TRL}
    assert rebuilt(before, codes({"dr_irl.config": text})) == asking | by_name


def test_the_page_of_the_report_counts_and_shipped_prompts_do_not(before: Codes) -> None:
    data = {name for code in before.values() for name in code if "/" in name}
    assert data == {"dr_irl/report/report.html.jinja"}


def broken_definition(name: str, definition: str) -> str:
    tree = ast.parse(source_text(name))
    kinds = ast.FunctionDef | ast.ClassDef
    [found] = (each for each in tree.body if isinstance(each, kinds) and each.name == definition)
    found.body.append(ast.parse("broken = 1").body[0])
    return ast.unparse(tree)


ROWS = re.findall(r"(?m)^\| `([\w.]+):(\w+)` \| (.+) \|$", (ROOT / "docs" / "artifacts.md").read_text())


@pytest.mark.parametrize(("name", "definition", "told"), ROWS)
def test_what_the_documentation_says_is_built_anew_is(
    before: Codes, codes: Read, name: str, definition: str, told: str
) -> None:
    found = rebuilt(before, codes({name: broken_definition(name, definition)}))
    names = set(re.findall("`(.+?)`", told))
    every = set(MAKERS.values())
    assert {MAKERS[make] for make in found - {TRL}} == (every - names if told.startswith("all but") else names)


@pytest.mark.slow
@pytest.mark.parametrize("entry", plumbing.LEFT_OUT)
def test_what_is_left_out_would_count_or_run_in_stages(
    before: Codes, codes: Read, ran: Ran, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    runs = {name for places in ran.values() for name, _ in places if f"{name}.".startswith(f"{entry}.")}
    monkeypatch.setattr(stages, "LEFT_OUT", {each: why for each, why in plumbing.LEFT_OUT.items() if each != entry})
    assert runs or codes({}) != before


@pytest.mark.parametrize("entry", plumbing.LEFT_OUT)
def test_what_is_left_out_has_a_reason_and_exists(entry: str) -> None:
    path = ROOT / entry.replace(".", "/")
    assert plumbing.LEFT_OUT[entry] and (path.is_dir() or path.with_suffix(".py").is_file())
