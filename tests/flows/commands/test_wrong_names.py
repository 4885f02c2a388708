"""What `evaluate` and `compare` say of a model or run that cannot be meant: at once, without a server."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from finished_run import finished_run, write_adapter
from prefect.client.schemas.objects import State
from typer.testing import CliRunner

from dr_irl.artifacts import Store
from dr_irl.errors import ModelError
from flows.adapters import find_adapter
from flows.commands.registry import app
from flows.evaluation import evaluate_model
from tasks.orchestration.opening import open_store

VERSION, MISSING = "20261130-030001-00000001", "20261130-030009-00000009"
COMMAND = """
import sys
from flows.cli import main

try:
    main()
finally:
    print({"torch", "prefect", "transformers"} & set(sys.modules))
"""


def dr_irl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command; the last line of its standard output names what heavy libraries it has imported."""
    command = [sys.executable, "-c", COMMAND, *arguments]
    offline = {"HF_HUB_OFFLINE": "1", "PATH": "", "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=offline | environment)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with one run, whose result is published as `helpful` and as `safe`."""
    opened = open_store(str(tmp_path_factory.mktemp("one") / "store"))
    finished_run(opened, 1)
    for name in ("helpful", "safe"):
        assert CliRunner().invoke(app, ["promote", name, "--store", opened.uri]).exit_code == 0
    return opened


@pytest.fixture(scope="module")
def two(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with two runs, the second of which refuses nothing."""
    folder = tmp_path_factory.mktemp("two") / "store"
    shutil.copytree(store.uri, folder)
    finished_run(open_store(str(folder)), 2, refused=0)
    return open_store(str(folder))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("save", "and it is no adapter folder, s3:// address or hub id"),
        (f"save/{VERSION}", "and it is no adapter folder, s3:// address or hub id"),
        ("./adapter", "and it is no adapter folder, s3:// address or hub id"),
        ("nobody/nothing", "and it is no adapter folder, s3:// address or reachable hub id ("),
    ],
)
def test_a_model_that_is_nowhere_is_refused_at_once_with_what_the_registry_has(
    model: str, sentence: str, store: Store
) -> None:
    run = dr_irl("evaluate", model, "--profile", "smoke", "--store", store.uri)
    assert (run.returncode, run.stdout.strip()) == (2, "set()"), run.stderr
    assert run.stderr.startswith(
        f"dr-irl: no model {model!r} in the registry of store {store.uri!r} (it has: helpful, safe); {sentence}"
    )
    assert run.stderr.count("\n") == 1


def test_a_version_that_is_missing_is_refused_at_once_with_those_that_there_are(store: Store) -> None:
    run = dr_irl("evaluate", f"safe/{MISSING}", "--profile", "smoke", "--store", store.uri)
    assert (run.returncode, run.stdout.strip()) == (2, "set()"), run.stderr
    assert run.stderr.endswith(f"has no version {MISSING!r}; it has: {VERSION}\n")


def test_an_empty_registry_says_so_and_is_not_made(tmp_path: Path) -> None:
    run = dr_irl("evaluate", "safe", "--profile", "smoke", "--store", str(tmp_path / "store"))
    assert (run.returncode, "which is empty; dr-irl models lists what" in run.stderr) == (2, True), run.stderr
    assert not (tmp_path / "store").exists()


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no adapter_config.json and no adapter_model.safetensors"):
        find_adapter(str(tmp_path), str(tmp_path / "store"))


def test_the_folder_of_an_adapter_is_itself(tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", 1)
    assert find_adapter(str(tmp_path / "adapter"), str(tmp_path / "store")) == str(tmp_path / "adapter")


def test_the_champion_of_a_registered_model_is_found(store: Store) -> None:
    assert find_adapter("safe", store.uri) == f"{store.uri}/models/safe/{VERSION}/adapter"


def test_the_flow_refuses_a_model_that_is_nowhere_in_the_same_words(store: Store) -> None:
    state = cast(State[Any], evaluate_model.fn("save", profile="smoke", store=store.uri))
    assert state.is_failed() and f"{state.message}".startswith(
        f"no model 'save' in the registry of store {store.uri!r} (it has: helpful, safe)"
    )


@pytest.mark.parametrize("named", [("latest",), (f"smoke-{VERSION}",), (f"smoke-{VERSION}", f"smoke-{VERSION}")])
def test_a_run_is_not_compared_with_itself(named: tuple[str, ...], store: Store) -> None:
    run = dr_irl("compare", *named, "--store", store.uri)
    expected = f"dr-irl: run 'smoke-{VERSION}' would be compared with itself; the store has no other run yet\n"
    assert (run.returncode, run.stderr) == (2, expected)


def test_who_would_compare_a_run_with_itself_is_told_of_the_others(two: Store) -> None:
    run = dr_irl("compare", "latest", "--store", two.uri)
    assert (run.returncode, run.stderr.endswith(f"itself; name another: smoke-{VERSION}\n")) == (2, True), run.stderr


def test_two_runs_are_compared(two: Store) -> None:
    run = dr_irl("compare", f"smoke-{VERSION}", "--store", two.uri)
    assert (run.returncode, "140 of 140" in run.stdout) == (0, True), run.stderr
