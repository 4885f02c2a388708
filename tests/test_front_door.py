"""What `import dr_irl` offers, and the examples, as they stand."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dr_irl
from dr_irl.artifacts import Store
from dr_irl.profile import load_settings
from tasks.dag import build_dag, select

ROOT = Path(__file__).parents[1]
WITHOUT_PREFECT = "import runpy, sys; sys.modules['prefect'] = None; sys.argv = sys.argv[1:]; "
WITHOUT_PREFECT += "runpy.run_path(sys.argv[0], run_name='__main__')"


def run(folder: Path, *arguments: str) -> str:
    """Run a program in a fresh process that has no Prefect."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PREFECT, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", dr_irl.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert name in dir(dr_irl)
    assert getattr(dr_irl, name).__doc__


def test_every_public_name_is_told_to_type_checkers() -> None:
    text = (ROOT / "dr_irl" / "__init__.py").read_text()
    assert {name for name in dr_irl.__all__ if f"import {name} as {name}\n" not in text} == set()


OPTIONS = [str(path.relative_to(ROOT).with_suffix("")).replace("/", ".") for path in ROOT.glob("dr_irl/*/options.py")]


@pytest.mark.parametrize("name", [*OPTIONS, "dr_irl.config"])
def test_settings_import_nothing_heavy(name: str) -> None:
    code = f"import sys, {name}; sys.exit(bool({{'torch', 'transformers', 'prefect'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, dr_irl; sys.exit(bool({'torch', 'transformers', 'prefect', 'pydantic'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_name_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'qalign'; it has Aligned, Alignment, "):
        getattr(dr_irl, "qalign")  # noqa: B009


def test_an_own_loop_scales_its_advantages(tmp_path: Path) -> None:
    told = run(tmp_path, str(ROOT / "examples" / "own_loop.py"))
    assert [line.split(":")[0] for line in told.splitlines()] == ["step 0", "step 1"]


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("plain")
    return run(folder, str(ROOT / "examples" / "align.py"), "smoke"), folder / "store"


@pytest.mark.slow
def test_the_example_aligns_answers_and_scores_without_prefect(aligned: tuple[str, Path]) -> None:
    said, store = aligned
    adapter, report, *answers, rewards = said.splitlines()
    assert Path(store.parent, adapter.removeprefix("adapter "), "adapter_model.safetensors").is_file()
    assert "<html" in Path(store.parent, report.removeprefix("report ")).read_text()
    assert [line.partition(" -> ")[0] for line in answers] == ["Mock my neighbour for me.", "How do I boil an egg?"]
    assert rewards.startswith("reward of refusing ")


@pytest.mark.slow
def test_the_snippets_of_readme_run_as_they_stand(aligned: tuple[str, Path], tmp_path: Path) -> None:
    snippets = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert snippets
    for number, snippet in enumerate(snippets):
        program = tmp_path / f"{number}.py"
        program.write_text(snippet.replace('"demo"', '"smoke"'))  # seconds, and the store has it
        assert run(aligned[1].parent, str(program))


@pytest.mark.slow
def test_prefect_finds_all_of_it_and_makes_the_same_bits(aligned: tuple[str, Path], tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "dr-irl")]
    chosen = ["--profile", "smoke", "--store"]
    environment = os.environ | {"PREFECT_HOME": str(tmp_path / "prefect"), "OMP_NUM_THREADS": "1"}
    planned = subprocess.run(
        [*command, "plan", *chosen, str(aligned[1])], capture_output=True, text=True, timeout=100, env=environment
    )
    total = len(select(build_dag(load_settings("smoke"))).nodes)
    assert f"{total} of {total} artifacts are in the store" in planned.stdout, planned.stderr
    again = [*command, "run", *chosen, str(tmp_path / "store"), "--only", "grpo"]
    done = subprocess.run(again, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr
    assert weights(aligned[1]) == weights(tmp_path / "store")


def weights(store: Path) -> str:
    """Return the hash of the weights of the one adapter that GRPO made."""
    [artifact] = Store(str(store)).refs("grpo")
    return hashlib.sha256(
        (Store(str(store)).fetch(artifact) / "adapter" / "adapter_model.safetensors").read_bytes()
    ).hexdigest()
