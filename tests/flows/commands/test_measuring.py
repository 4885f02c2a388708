"""What measures models outside a run: `evaluate`, `compare`, `ablate`, on one small store."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DR_IRL = str(Path(sys.executable).with_name("dr-irl"))
SMALL = ["--profile", "smoke", "--set", "reward.single_baseline=false"]

pytestmark = pytest.mark.slow


def dr_irl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DR_IRL, *arguments], capture_output=True, text=True, timeout=400)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, prefect_home: Path) -> Path:
    folder = tmp_path_factory.mktemp("measured") / "store"
    for steps in ("1", "2"):
        run = dr_irl("run", *SMALL, "--set", f"grpo.steps={steps}", "--store", str(folder))
        assert run.returncode == 0, run.stderr
    return folder


def adapters(store: Path) -> list[Path]:
    return sorted(path.parent for path in store.glob("objects/grpo/*/adapter/adapter_config.json"))


def test_an_adapter_is_evaluated_beside_the_unaligned_model(store: Path) -> None:
    run = dr_irl("evaluate", str(adapters(store)[0]), *SMALL, "--store", str(store))
    assert run.returncode == 0, run.stderr
    assert (
        "unaligned" in run.stdout
        and "champion" in run.stdout
        and "aligned ┃" not in run.stdout.replace("unaligned", "")
    )


def test_a_model_that_is_not_there_is_refused_in_a_sentence(store: Path) -> None:
    run = dr_irl("evaluate", "nobody", *SMALL, "--store", str(store))
    assert run.returncode == 2
    assert "'nobody' is no bundled model, folder or reachable hub id" in run.stderr
    assert "Traceback" not in run.stderr


def test_two_runs_are_compared_prompt_by_prompt(store: Path) -> None:
    oldest = dr_irl("runs", "--store", str(store)).stdout.split()[-1]
    run = dr_irl("compare", oldest, "--store", str(store))
    assert run.returncode == 0, run.stderr
    assert "harmful" in run.stdout and "lookalike" in run.stdout


def test_a_run_that_starts_from_an_adapter_trains_it_further(store: Path) -> None:
    before = set(adapters(store))
    start = ["--set", f"models.champion={min(before)}", "--set", "models.start=champion"]
    run = dr_irl("run", *SMALL, *start, "--store", str(store))
    assert run.returncode == 0, run.stderr
    assert "warm start" not in run.stdout and "champion" in run.stdout
    [made] = set(adapters(store)) - before
    manifest = json.loads((made.parent / "manifest.json").read_text())
    assert "start" in manifest["inputs"]


def test_an_ablation_compares_every_arm_with_the_first(store: Path) -> None:
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
