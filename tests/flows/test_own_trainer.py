"""Trainer, sampler and reward objective of docs/extend.md, as a package beside ours, by the user's own command."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from outside_package import install

SCRIPTS = Path(sys.executable).parent
PAGE = (Path(__file__).parents[2] / "docs" / "extend.md").read_text()
CHOSEN = ["--set", "alignment.trainer=keep", "--set", "models.sampler=loud", "--set", "reward.objective=halved"]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    [toml] = re.findall(r"(?ms)^```toml\n(.*?)^```$", PAGE)
    groups = tomllib.loads(toml)["project"]["entry-points"]
    del groups["dr_irl.categories"]  # a category more needs demonstrations
    install(folder, "my_safety", "", groups)
    for text in re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE):
        (folder / text.split("\n")[0].removeprefix("# ")).write_text(text)
    return folder


@pytest.fixture(scope="module")
def dr_irl(own: Path, prefect_home: Path) -> Command:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(own), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"PYTHONPATH": path, "PREFECT_HOME": str(prefect_home), "COLUMNS": "200"}
        return subprocess.run(
            [str(SCRIPTS / "dr-irl"), *arguments], capture_output=True, text=True, timeout=280, env=environment
        )

    return call


@pytest.fixture(scope="module")
def ran(dr_irl: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("run")
    done = dr_irl(
        "run", "--profile", "smoke", *CHOSEN, "--store", str(folder / "store"), "--output", str(folder / "out")
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr, folder


def plan(command: Command, store: Path, *settings: str) -> dict[str, str]:
    done = command("plan", "--profile", "smoke", *settings, "--store", str(store))
    assert done.returncode == 0, done.stderr
    lines = (line.split() for line in done.stdout.splitlines()[:-1] if not line.startswith(" "))
    return {name: " ".join(words) for name, _, *words in lines}


def test_an_unknown_name_is_told_with_those_that_are_there(dr_irl: Command) -> None:
    done = dr_irl("plan", "--profile", "smoke", "--set", "alignment.trainer=kept")
    assert done.returncode == 2
    assert "there is no trainer 'kept'; there are grpo, grpo-trl, sft, keep" in done.stderr


def test_a_run_says_first_what_the_trainer_will_do(dr_irl: Command) -> None:
    done = dr_irl("run", "--profile", "smoke", *CHOSEN, "--dry-run")
    assert "7 keep                 nothing is trained" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_adapter_is_what_the_trainer_made(ran: tuple[str, Path]) -> None:
    assert list((ran[1] / "store" / "objects" / "keep").iterdir())
    assert (ran[1] / "out" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_the_report_names_what_was_chosen(ran: tuple[str, Path]) -> None:
    page = (ran[1] / "out" / "report.html").read_text()
    assert all(name in page for name in ("keep", "loud", "Loss, halved", "<code>my_losses.halved</code>"))


@pytest.mark.slow
def test_the_sampler_was_asked(ran: tuple[str, Path]) -> None:
    assert ran[0].count("asked ") >= 3  # completions and two evaluations


@pytest.mark.slow
def test_the_reward_models_were_trained_with_the_objective(ran: tuple[str, Path]) -> None:
    [manifest] = (ran[1] / "store" / "objects" / "reward" / "insult").glob("*/manifest.json")
    told = json.loads(manifest.read_text())
    assert told["settings"]["reward"]["objective"] == "halved"
    assert "my_losses" in told["source"]


@pytest.mark.slow
def test_an_edit_of_the_package_builds_anew_what_it_made(ran: tuple[str, Path], dr_irl: Command, own: Path) -> None:
    before = plan(dr_irl, ran[1] / "store", *CHOSEN)
    assert set(before.values()) == {"in the store"}
    text = (own / "my_losses.py").read_text()
    (own / "my_losses.py").write_text(text.replace("/ 2", "/ 3"))
    try:
        after = plan(dr_irl, ran[1] / "store", *CHOSEN)
    finally:
        (own / "my_losses.py").write_text(text)
    changed = {name.split("/")[0] for name, state in after.items() if state != "in the store"}
    assert changed == {"reward", "panel", "panel-report", "report"}
