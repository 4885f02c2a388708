"""What measures models outside a run: `evaluate`, `compare`, `ablate`, on one small store."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = ["--profile", "smoke", "--set", "reward.single_baseline=false"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def commands(make_dr_irl: Callable[..., Any], prefect_api: str) -> Any:
    return make_dr_irl(prefect_api)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, commands: Any) -> Path:
    folder = tmp_path_factory.mktemp("measured") / "store"
    for steps in ("1", "2"):
        run = commands.run("run", *SMALL, "--set", f"grpo.steps={steps}", "--store", str(folder))
        assert run.wait() == 0, run.err
    return folder


def adapters(store: Path) -> list[Path]:
    return sorted(path.parent for path in store.glob("objects/grpo/*/adapter/adapter_config.json"))


def test_an_adapter_is_evaluated_beside_the_unaligned_model(store: Path, commands: Any) -> None:
    run = commands.run("evaluate", str(adapters(store)[0]), *SMALL, "--store", str(store))
    assert run.wait() == 0, run.err
    [header] = [line for line in run.out.splitlines() if "prompts" in line]
    assert header.split() == ["prompts", "n", "unaligned", "champion"]


def test_two_runs_are_compared_prompt_by_prompt(store: Path, commands: Any) -> None:
    oldest = commands.run("runs", "--store", str(store)).out.split()[-1]
    run = commands.run("compare", oldest, "--store", str(store))
    assert run.wait() == 0, run.err
    assert "harmful" in run.out and "lookalike" in run.out


def test_a_run_that_starts_from_an_adapter_trains_it_further(store: Path, commands: Any) -> None:
    before = set(adapters(store))
    start = ["--set", f"models.champion={min(before)}", "--set", "models.start=champion"]
    run = commands.run("run", *SMALL, *start, "--store", str(store))
    assert run.wait() == 0, run.err
    assert "warm start" not in run.out and "champion" in run.out
    [made] = set(adapters(store)) - before
    manifest = json.loads((made.parent / "manifest.json").read_text())
    assert "start" in manifest["inputs"]


def test_an_ablation_compares_every_arm_with_the_first(store: Path, prefect_home: Path) -> None:
    code = (
        "from flows.ablation import ablate\n"
        "arms = {'static': {'scaling.combine': 'none'}, 'both': {}}\n"
        "common = {'reward.single_baseline': False, 'grpo.steps': 1}\n"
        f"ablate(profile='smoke', overrides=common, arms=arms, store={str(store)!r})\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=400)
    assert run.returncode == 0, run.stderr
    [table] = (store / "ablations").glob("*.json")
    static, both = json.loads(table.read_text())
    assert (static["arm"], both["arm"]) == ("static", "both")
    assert "harmful, difference" in both and "harmful, difference" not in static
