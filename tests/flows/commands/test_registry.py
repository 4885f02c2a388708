"""`dr-irl promote`, `rollback` and `models`: what a person reads, and what a script does."""

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from finished_run import SECRET, finished_run
from typer.testing import CliRunner, Result

from dr_irl.artifacts import Store
from dr_irl.errors import GateError, UserError
from dr_irl.promotion.hub import require_uploadable
from flows.commands.registry import app
from tasks.orchestration.opening import open_store

FIRST, SECOND = "20261130-030001-00000001", "20261130-030002-00000002"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def dr_irl(store: Store, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--store", store.uri])


def listed(store: Store) -> list[tuple[str, bool]]:
    rows = json.loads(dr_irl(store, "models", "--json").stdout)
    return [(row["version"], row["champion"]) for row in rows]


@pytest.fixture
def two(store: Store) -> Store:
    """A store in which two runs were promoted as `safe`, one after the other."""
    finished_run(store, 1)
    dr_irl(store, "promote", "safe")
    finished_run(store, 2, champion=f"{store.uri}/models/safe/{FIRST}/adapter")
    dr_irl(store, "promote", "safe")
    return store


def test_promoting_prints_every_check_and_where_the_version_lies(store: Store) -> None:
    finished_run(store)
    result = dr_irl(store, "promote", "safe")
    assert result.stdout.splitlines()[0].startswith("passed  safety: insult: refuses 20 of 20")
    assert result.stdout.splitlines()[-1] == f"safe {FIRST} is the champion: {store.uri}/models/safe/{FIRST}"


def test_a_failed_gate_ends_with_status_3(store: Store) -> None:
    finished_run(store, refused=0)
    result = dr_irl(store, "promote", "safe")
    assert isinstance(result.exception, GateError) and result.exception.exit_status == 3
    assert "FAILED  safety: all: refuses 0 of 140" in result.stdout and listed(store) == []


def test_a_dry_run_shows_the_checks_and_publishes_nothing(store: Store) -> None:
    finished_run(store)
    result = dr_irl(store, "promote", "safe", "--dry-run")
    assert result.stdout.splitlines()[-1].endswith("may replace the unaligned model; nothing was published")
    assert listed(store) == []


def test_no_prompt_is_printed(store: Store) -> None:
    finished_run(store)
    assert SECRET not in dr_irl(store, "promote", "safe").output


def test_promoting_the_champion_again_changes_nothing(two: Store) -> None:
    before = listed(two)
    assert f"safe {SECOND} is the champion" in dr_irl(two, "promote", "safe").stdout
    assert listed(two) == before


def test_an_unknown_run_is_told(store: Store) -> None:
    finished_run(store)
    assert "has no run 'x'" in str(dr_irl(store, "promote", "safe", "--run", "x").exception)


def test_models_are_listed_with_the_champion_marked(two: Store) -> None:
    lines = dr_irl(two, "models").stdout.splitlines()
    assert [("champion" in line, line.split()[1]) for line in lines] == [(False, FIRST), (True, SECOND)]


def test_a_rollback_says_what_is_the_champion_now(two: Store) -> None:
    assert dr_irl(two, "rollback", "safe").stdout == f"safe {FIRST} is the champion, instead of {SECOND}\n"
    assert listed(two) == [(FIRST, True), (SECOND, False)]


def test_a_rollback_to_a_version_makes_it_the_champion(two: Store) -> None:
    dr_irl(two, "rollback", "safe", "--to", FIRST)
    assert listed(two) == [(FIRST, True), (SECOND, False)]


def test_an_empty_registry_says_how_to_publish(store: Store) -> None:
    assert "has no model yet; dr-irl promote NAME" in dr_irl(store, "models").stdout


def test_a_damaged_version_is_found_by_its_hash(two: Store) -> None:
    two.write_text(f"models/safe/{FIRST}/report.html", "x" * len(SECRET))
    assert dr_irl(two, "models").exit_code == 0
    result = dr_irl(two, "models", "--verify")
    assert result.exit_code == 1 and "report.html do not match its hash" in result.stdout


def test_looking_and_going_back_load_neither_torch_nor_prefect(tmp_path: Path) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from flows.commands.registry import app; "
        "CliRunner().invoke(app, ['models', '--store', sys.argv[1]]); "
        "CliRunner().invoke(app, ['rollback', 'safe', '--store', sys.argv[1]]); "
        "print([name for name in ('torch', 'prefect', 'scipy') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("repository", "base_model", "token", "problem"),
    [
        ("name", "org/base", "t", "'name' names no repository; allowed is OWNER/NAME"),
        ("org/name", "org/base", None, "set HF_TOKEN"),
        ("org/name", "bundled:tiny-random-lm", "t", "is no hub id, so nobody could load the adapter from the hub"),
    ],
)
def test_an_upload_that_cannot_work_is_refused_before_anything_is_done(repository, base_model, token, problem) -> None:
    with pytest.raises(UserError, match=problem):
        require_uploadable(repository, base_model, token)


def test_a_hub_that_cannot_be_reached_is_told_in_a_sentence(two: Store) -> None:
    code = (
        "import sys; from dr_irl.artifacts import Store; from dr_irl.promotion.hub import upload; "
        "from dr_irl.promotion.registry import Registry; r = Registry(Store(sys.argv[1])); "
        "upload(r.version('safe', sys.argv[2]), r.fetch('safe', sys.argv[2]), 'org/name', 'a-token')"
    )
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", code, two.uri, SECOND]
    error = subprocess.run(command, capture_output=True, text=True, env=environment).stderr.splitlines()[-1]
    assert error.startswith("dr_irl.errors.UserError: version ") and "could not be uploaded to 'org/name'" in error
    assert "check HF_TOKEN, HF_ENDPOINT and the network" in error and "a-token" not in error
