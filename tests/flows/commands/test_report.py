"""`dr-irl report`: where the report of a run is put, and when it is opened."""

import subprocess
import sys
from pathlib import Path

import pytest
from finished_run import SECRET, finished_run

from dr_irl.artifacts import Store
from tasks.orchestration.opening import open_store

COMMAND = [sys.executable, "-m", "flows.cli", "report"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    opened = open_store(str(tmp_path_factory.mktemp("two") / "store"))
    for number in (1, 2):
        finished_run(opened, number)
    return opened


def report(store: Store, *arguments: str, browser: str = "") -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *arguments, "--store", store.uri]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={"BROWSER": browser, "PATH": ""})


@pytest.fixture
def browser(tmp_path: Path) -> str:
    """A browser that writes down the addresses that it is to open, in `seen`."""
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path / "seen"}\n')
    script.chmod(0o755)
    return f"{script} %s"


def test_the_newest_report_is_named(store: Store) -> None:
    done = report(store)
    assert (done.returncode, Path(done.stdout.strip()).read_text()) == (0, SECRET), done.stderr
    assert "00000002" in done.stdout


def test_the_report_of_a_run_is_named(store: Store) -> None:
    assert "00000001" in report(store, "smoke-20261130-030001-00000001").stdout


def test_a_report_is_copied_to_a_file(store: Store, tmp_path: Path) -> None:
    done = report(store, "--output", str(tmp_path / "copy.html"))
    assert (done.stdout.strip(), (tmp_path / "copy.html").read_text()) == (str(tmp_path / "copy.html"), SECRET)


def test_a_folder_is_no_file_to_copy_to(store: Store, tmp_path: Path) -> None:
    done = report(store, "--output", str(tmp_path))
    assert (done.returncode, done.stderr.startswith("dr-irl: --output")) == (2, True), done.stderr


def test_a_run_that_is_not_there_is_told_with_those_that_are(store: Store) -> None:
    done = report(store, "nope")
    assert (done.returncode, "has no run 'nope'; it has: smoke-" in done.stderr) == (2, True), done.stderr


def test_a_report_is_opened_where_that_is_asked_for(store: Store, browser: str, tmp_path: Path) -> None:
    done = report(store, "--open", browser=browser)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen").read_text() == f"file://{done.stdout}"


def test_a_machine_without_browser_says_so(store: Store) -> None:
    done = report(store, "--open")
    assert (done.returncode, "no browser can be started here" in done.stderr) == (2, True), done.stderr


def test_without_a_terminal_nothing_is_opened(store: Store, browser: str, tmp_path: Path) -> None:
    assert report(store, browser=browser).returncode == 0
    assert not (tmp_path / "seen").exists()
