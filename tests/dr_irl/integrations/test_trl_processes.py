"""Two CPU processes do what one does: `trl_run` on the same completions, alone and under torch's launcher.

Not `accelerate launch`: on CPUs it needs MPI, and starts one process without it. The third group of a batch is half
on one process, half on the other.
"""

import json
import subprocess
import sys
from typing import Any

import pytest
import trl_run
from trl_run import make_trainer, what_it_did

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    trainer = make_trainer(tmp_path_factory.mktemp("one"))
    trainer.train()
    return what_it_did(trainer)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, str(trl_run.__file__), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"process-{rank}.json").read_text()) for rank in (0, 1)]


def test_factors_are_those_of_one_process(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    assert two[0]["alpha"] == pytest.approx(one["alpha"], abs=TOLERANCE)


def test_logged_advantages_are_those_of_one_process(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    assert two[0]["advantages"] == pytest.approx(one["advantages"], abs=TOLERANCE)


@pytest.mark.parametrize("rank", [0, 1])
def test_weights_are_those_of_one_process(one: dict[str, Any], two: list[dict[str, Any]], rank: int) -> None:
    assert two[rank]["weights"].keys() == one["weights"].keys()
    for name, values in one["weights"].items():
        assert two[rank]["weights"][name] == pytest.approx(values, abs=TOLERANCE)


@pytest.mark.parametrize("rank", [0, 1])
def test_mean_gaps_are_those_of_one_process(one: dict[str, Any], two: list[dict[str, Any]], rank: int) -> None:
    assert two[rank]["mean_gaps"] == pytest.approx(one["mean_gaps"], abs=TOLERANCE)


def test_only_the_main_process_keeps_records(one: dict[str, Any], two: list[dict[str, Any]]) -> None:
    assert (len(two[0]["alpha"]), len(two[1]["alpha"])) == (len(one["alpha"]), 0)
