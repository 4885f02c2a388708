"""Runs as processes of their own, and the servers they talk to: Prefect's and two of S3, on free ports."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from moto.server import ThreadedMotoServer
from preloaded import Started, Starter

ACCESS_KEY, SECRET = "access-key-of-tests", "secret-key-of-tests-0123456789"
SCRIPTS = Path(sys.executable).parent
SECONDS = 240
"""How long anything may take before a test gives up: stuck, not slow."""


@dataclass(frozen=True)
class Run:
    """A `dr-irl` command at work, or done."""

    process: Started
    folder: Path

    @property
    def out(self) -> str:
        """What it wrote to standard output so far."""
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        """What it wrote to standard error so far."""
        return (self.folder / "err").read_text()

    def sentences(self) -> list[str]:
        """Return the lines on standard error but for the preview and the progress."""
        lines = (line for line in self.err.splitlines() if line.strip() and not line.startswith(" "))
        return [line for line in lines if not re.match(r"profile |policy |\d \w|[\w -]+ \d+/\d+ ", line)]

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the process, or to all of its group as a terminal does; one that has ended misses it."""
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process.pid, number)

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait for its end and return its status."""
        return self.process.wait(seconds)

    def children(self) -> list[psutil.Process]:
        """Return the processes it has started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def until(self, happened: Callable[[], bool]) -> bool:
        """Wait for something to happen; tells whether it did before the process ended."""
        deadline = time.monotonic() + SECONDS
        while not happened():
            if self.process.poll() is not None:
                return happened()
            assert time.monotonic() < deadline, self.err
            time.sleep(0.001)
        return True


class DrIrl:
    """Starts commands, each in a session and a folder of its own, and ends those that are left."""

    def __init__(self, folder: Path, prefect_api: str | None, starter: Starter) -> None:
        self._folder, self._runs, self._starter = folder, list[Run](), starter
        self.home = folder / "prefect"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "DR_IRL_", "AWS_"))}
        self.environment = kept | {
            "PREFECT_HOME": str(self.home),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DR_IRL_CACHE": os.environ.get("DR_IRL_CACHE", str(Path.home() / ".cache" / "dr-irl")),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        if prefect_api is not None:
            self.environment["PREFECT_API_URL"] = prefect_api

    def start(self, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> Run:
        """Start a command."""
        folder = self._folder / f"{len(self._runs)}"
        folder.mkdir()
        (folder / "in").write_text(stdin)
        with (folder / "in").open() as said, (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            process = self._starter.start(
                [str(SCRIPTS / "dr-irl"), *arguments],
                env=self.environment | dict(environment or {}),
                cwd=folder,
                stdin=said,
                stdout=out,
                stderr=err,
            )
        run = Run(process, folder)
        self._runs.append(run)
        return run

    def run(self, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> Run:
        """Run a command to its end."""
        run = self.start(*arguments, stdin=stdin, environment=environment)
        run.wait()
        return run

    def close(self) -> None:
        """End what is left."""
        for run in self._runs:
            if run.process.poll() is None:
                left = run.children()
                run.send(signal.SIGKILL, group=True)
                run.wait()
                _kill(left)


MakeDrIrl = Callable[..., DrIrl]


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """What runs are forked from."""
    starter = Starter(tmp_path_factory.mktemp("starter"))
    yield starter
    starter.close()


@pytest.fixture(scope="module")
def make_dr_irl(tmp_path_factory: pytest.TempPathFactory, starter: Starter) -> Iterator[MakeDrIrl]:
    """Make commands with a Prefect home of their own; without `prefect_api`, each starts a server of its own."""
    made: list[DrIrl] = []

    def make(prefect_api: str | None = None) -> DrIrl:
        made.append(DrIrl(tmp_path_factory.mktemp("commands"), prefect_api, starter))
        return made[-1]

    yield make
    for commands in made:
        commands.close()


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server: runs that are given its address need not start one."""
    home, address = tmp_path_factory.mktemp("prefect-server"), f"127.0.0.1:{_free_port()}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    host, port = address.split(":")
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [str(SCRIPTS / "prefect"), "server", "start", "--host", host, "--port", port, "--no-ui"],
            env=kept | {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_for(f"http://{address}/api/health", server, home / "log")
        yield f"http://{address}/api"
    finally:
        _end(server)


@pytest.fixture(scope="session")
def moto() -> Iterator[dict[str, str]]:
    """The environment of an S3 server that honours conditional puts and checks no credentials; it has `bucket`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = _aws(f"http://{host}:{port}")
    s3_client(environment).create_bucket(Bucket="bucket")
    yield environment
    server.stop()


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an S3 server that checks signatures and ignores conditions on puts; it has `bucket`."""
    folder, address = tmp_path_factory.mktemp("rclone"), f"127.0.0.1:{_free_port()}"
    (folder / "served" / "bucket").mkdir(parents=True)
    command = [str(SCRIPTS / "rclone"), "serve", "s3", "--config", "", "--auth-key", f"{ACCESS_KEY},{SECRET}"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*command, "--addr", address, str(folder / "served")], stderr=log)
    try:
        _wait_for(f"http://{address}/", server, folder / "log")
        yield _aws(f"http://{address}")
    finally:
        _end(server)


@pytest.fixture(scope="session")
def s3() -> Callable[[Mapping[str, str]], Any]:
    """Makes a client of the server that an environment names."""
    return s3_client


def s3_client(environment: Mapping[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


@pytest.fixture(scope="session")
def ask_prefect(prefect_api: str) -> Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]:
    """Posts a question to the API of the server, and returns the answer."""

    def ask(path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{prefect_api}/{path}", json.dumps(body).encode(), headers)
        with _LOCAL.open(request, timeout=30) as answer:
            return json.load(answer)

    return ask


_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _aws(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return int(free.getsockname()[1])


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers, if only that it may not say."""
    deadline = time.monotonic() + SECONDS
    while True:
        assert server.poll() is None and time.monotonic() < deadline, log.read_text()
        try:
            with _LOCAL.open(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)


def _end(server: subprocess.Popen[bytes]) -> None:
    children = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(30)
    _kill(children)
    server.kill()
    server.wait()


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
