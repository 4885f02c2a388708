"""A real server, a real worker, a real deployment: what a user of `deployments/` gets."""

import json
import os
import signal
import socket
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dr_irl.categories import HARM_CATEGORIES

BOOTSTRAP = Path(__file__).parents[2] / "deployments" / "bootstrap.sh"
SCRIPTS = Path(sysconfig.get_path("scripts"))
SECONDS = 300

Start = Callable[..., subprocess.Popen[bytes]]


@dataclass(frozen=True)
class Site:
    """A bootstrapped server with one worker."""

    address: str
    store: Path
    environment: Mapping[str, str]

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of the site would."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=SECONDS)

    def run_deployment(self, name: str, profile: str) -> subprocess.CompletedProcess[str]:
        """Start a run of a deployment and wait for its end."""
        given = ["--param", f'profile="{profile}"', "--param", f'store="{self.store}"']
        return self.run("prefect", "deployment", "run", name, *given, "--watch")

    def ask(self, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Post a question to the server's API."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.address}/api/{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def artifacts(self) -> set[Path]:
        """List every file of every artifact in the store."""
        return {path for path in (self.store / "objects").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start processes in the background, and end exactly those."""
    folder = tmp_path_factory.mktemp("processes")
    started: list[subprocess.Popen[bytes]] = []

    def start_process(*command: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with (folder / f"{len(started)}.log").open("wb") as log:
            # A session of its own: its children can be ended with it, and nothing else can.
            process = subprocess.Popen(
                command, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )
        started.append(process)
        return process

    try:
        yield start_process
    finally:
        for process in reversed(started):
            _end(process)


@pytest.fixture(scope="module")
def site(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Start a server on a free port, bootstrap it twice, and start a worker in an unrelated folder."""
    home, store, port = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("store"), _free_port()
    address = f"http://127.0.0.1:{port}"
    site = Site(address, store, _environment(home, PREFECT_API_URL=f"{address}/api", DR_IRL_STORE=str(store)))
    server = start(
        "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), environment=site.environment
    )
    _wait_for(f"{address}/api/health", server)
    for _ in range(2):
        bootstrapped = site.run(BOOTSTRAP)
        assert bootstrapped.returncode == 0, bootstrapped.stdout + bootstrapped.stderr
    start("prefect", "worker", "start", "--pool", "dr-irl", "--type", "process", environment=site.environment)
    return site


@pytest.fixture(scope="module")
def smoke_run(site: Site) -> subprocess.CompletedProcess[str]:
    """Run the `train` deployment once on the smoke profile."""
    return site.run_deployment("train/train", "smoke")


@pytest.mark.slow
def test_the_ui_answers(site: Site) -> None:
    with urllib.request.urlopen(f"{site.address}/", timeout=30) as answer:
        assert answer.status == 200


@pytest.mark.slow
def test_a_deployed_run_leaves_its_record_in_the_store(site: Site, smoke_run: subprocess.CompletedProcess[str]) -> None:
    assert smoke_run.returncode == 0, smoke_run.stdout + smoke_run.stderr
    assert [path.name for path in (site.store / "runs").glob("smoke-*.json")]


@pytest.mark.slow
@pytest.mark.usefixtures("smoke_run")
def test_the_library_reports_progress_on_the_page_of_the_run(site: Site) -> None:
    deadline = time.monotonic() + 30
    while not (names := {line["name"] for line in site.ask("logs/filter", {})} & {"dr_irl.progress"}):
        assert time.monotonic() < deadline, "no line of dr_irl.progress reached the server"
        time.sleep(1)
    assert names


@pytest.mark.slow
@pytest.mark.usefixtures("smoke_run")
def test_the_scaling_factors_stand_on_the_page_of_the_run(site: Site) -> None:
    [table] = [found for found in site.ask("artifacts/filter", {}) if found["key"] == "scaling-factors"]
    rows = json.loads(table["data"])
    assert table["flow_run_id"] and {row["category"] for row in rows} <= set(HARM_CATEGORIES) and rows
    assert all({"aD", "aM", "alpha", "gaps kept"} <= row.keys() for row in rows)


@pytest.mark.slow
@pytest.mark.usefixtures("smoke_run")
def test_retraining_on_unchanged_data_computes_nothing(site: Site) -> None:
    before = site.artifacts()
    assert before
    retrained = site.run_deployment("retrain/retrain", "smoke")
    assert retrained.returncode == 0, retrained.stdout + retrained.stderr
    assert site.artifacts() == before


@pytest.mark.slow
def test_an_unknown_profile_fails_the_run_with_one_sentence(site: Site) -> None:
    refused = site.run_deployment("train/train", "nope")
    assert refused.returncode != 0
    [run] = site.ask("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}})
    message = run["state"]["message"]
    assert "profile 'nope' is unknown; allowed are " in message
    assert len(message.splitlines()) == 1


def test_a_store_that_only_one_folder_can_reach_is_refused(tmp_path: Path) -> None:
    environment = _environment(tmp_path, PREFECT_API_URL="http://127.0.0.1:1/api", DR_IRL_STORE="here")
    refused = subprocess.run([BOOTSTRAP], env=environment, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "DR_IRL_STORE is 'here'" in refused.stderr


def test_bootstrap_asks_for_the_server_it_should_prepare(tmp_path: Path) -> None:
    refused = subprocess.run([BOOTSTRAP], env=_environment(tmp_path), capture_output=True, text=True)
    assert refused.returncode != 0
    assert "PREFECT_API_URL: set it to the address of the Prefect server" in refused.stderr


def _environment(home: Path, **added: str) -> dict[str, str]:
    """Return this environment without its own Prefect settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DR_IRL_"))}
    return kept | {
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **added,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    deadline = time.monotonic() + 120
    while True:
        assert server.poll() is None, f"the server ended with status {server.returncode} before it answered"
        assert time.monotonic() < deadline, f"{url} did not answer within 120 s"
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.5)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and the children of its session."""
    for number, seconds in ((signal.SIGTERM, 30), (signal.SIGKILL, 10)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
