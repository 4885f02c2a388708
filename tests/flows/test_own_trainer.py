"""A trainer, a sampler and a reward objective that another package brings, through the user's own command."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from outside_package import install

SCRIPTS = Path(sys.executable).parent
SOURCE = '''
import json
from dataclasses import replace
from pathlib import Path

from dr_irl.language.adapters import POLICY, save_adapter
from dr_irl.language.sampling import CachedPrefixSampler
from dr_irl.reward.losses import Objective, pairwise_loss
from tasks.alignment import fresh_policy
from tasks.models import base_policy
from tasks.stages import Stage
from tasks.trainers import Trainer


def keep(folder: Path, job) -> None:
    """Train nothing at all: an adapter as it begins."""
    save_adapter(fresh_policy(base_policy(job.settings)[0], job.settings), POLICY, folder / "adapter")


KEEPING = Trainer(
    stage=Stage("keep", "own:keep", lambda settings, _: {"seed": settings.seed}),
    preview=lambda settings: "keep                 nothing is trained",
    rewards=False,
)


class Loud(CachedPrefixSampler):
    """Says in a file that it was asked."""

    def sample(self, prompts, **how):
        with open(Path(__file__).parent / "asked", "a") as asked:
            asked.write(f"{len(prompts)}\\n")
        return super().sample(prompts, **how)


def halved(demonstration, completions, log_weights, constants: Objective):
    return pairwise_loss(demonstration, completions, beta=constants.beta) / 2
'''
ENTRIES = {
    "dr_irl.trainers": {"keep": "own:KEEPING"},
    "dr_irl.samplers": {"loud": "own:Loud"},
    "dr_irl.reward_objectives": {"halved": "own:halved"},
}
CHOSEN = ["--set", "alignment.trainer=keep", "--set", "models.sampler=loud", "--set", "reward.objective=halved"]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(folder, "own", SOURCE, ENTRIES)
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
    assert all(name in page for name in ("keep", "loud", "halved"))


@pytest.mark.slow
def test_the_sampler_was_asked(ran: tuple[str, Path], own: Path) -> None:
    assert (own / "asked").read_text().count("\n") >= 3  # completions and two evaluations


@pytest.mark.slow
def test_the_reward_models_were_trained_with_the_objective(ran: tuple[str, Path]) -> None:
    [manifest] = (ran[1] / "store" / "objects" / "reward" / "insult").glob("*/manifest.json")
    told = json.loads(manifest.read_text())
    assert told["settings"]["reward"]["objective"] == "halved"
    assert "own" in told["source"]


@pytest.mark.slow
def test_an_edit_of_the_package_builds_anew_what_it_made(ran: tuple[str, Path], dr_irl: Command, own: Path) -> None:
    before = plan(dr_irl, ran[1] / "store", *CHOSEN)
    assert set(before.values()) == {"in the store"}
    text = (own / "own.py").read_text()
    (own / "own.py").write_text(text.replace("/ 2", "/ 3"))
    try:
        after = plan(dr_irl, ran[1] / "store", *CHOSEN)
    finally:
        (own / "own.py").write_text(text)
    changed = {name.split("/")[0] for name, state in after.items() if state != "in the store"}
    assert changed == {"reward", "panel", "panel-report", "report"}
