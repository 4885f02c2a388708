"""The services of `docker/compose.yaml` without containers: their commands and environment, on free loopback ports."""

import base64
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import psutil
import yaml
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
SECONDS = 300
"""How long anything may take before a test gives up: stuck, not slow."""
SECRETS = {
    "POSTGRES_PASSWORD": "planted-password-of-postgres",
    "S3_ACCESS_KEY": "planted-access-key",
    "S3_SECRET_KEY": "planted-secret-0123456789",
    "PREFECT_API_AUTH_STRING": "planted-user:planted-password-of-prefect",
}
"""What compose.yaml asks its user for."""
LOGIN = {"Authorization": f"Basic {base64.b64encode(SECRETS['PREFECT_API_AUTH_STRING'].encode()).decode()}"}
"""What a request to the API has to show."""
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Service:
    """One service of compose.yaml."""

    command: list[str]
    environment: dict[str, str]

    @classmethod
    def read(cls, name: str, *, instead: Mapping[str, str]) -> "Service":
        """Read a service.

        Args:
            name: as in compose.yaml.
            instead: value of an environment variable or word of a command -> what it is here, outside containers.
        """
        described = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"][name]
        command = [*described["entrypoint"], *described.get("command", [])]
        given = {key: _filled_in(str(value)) for key, value in described.get("environment", {}).items()}
        return cls([_moved(word, instead) for word in command], {k: _moved(v, instead) for k, v in given.items()})


def _filled_in(value: str) -> str:
    return re.sub(r"\$\{(\w+):[?-][^}]*\}", lambda match: SECRETS.get(match[1], ""), value)


def _moved(value: str, instead: Mapping[str, str]) -> str:
    for old, new in instead.items():
        value = value.replace(old, new)
    return value


@dataclass
class Processes:
    """Processes in the background: each in a session of its own, and exactly those are ended."""

    folder: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *command: str, environment: Mapping[str, str], cwd: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a process; what it says goes to a file that `said` reads."""
        with self._log(len(self.started)).open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, cwd=cwd or self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.started.append(process)
        return process

    def said(self, process: subprocess.Popen[bytes]) -> str:
        """Return what a process wrote so far."""
        return self._log(self.started.index(process)).read_text(errors="replace")

    def end(self) -> None:
        """End them, the last first."""
        for process in reversed(self.started):
            end(process)

    def _log(self, number: int) -> Path:
        return self.folder / f"{number}.log"


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    """End a process and all it has started, some of it in other sessions."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    with suppress(ProcessLookupError):
        process.send_signal(number)
    with suppress(subprocess.TimeoutExpired):
        process.wait(0 if number == signal.SIGKILL else 20)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    process.kill()
    process.wait(SECONDS)


def clean_environment(**added: str) -> dict[str, str]:
    """Return this environment without its own Prefect, store and credentials."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DR_IRL_", "AWS_", "PG"))
    }
    path = f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "NO_PROXY": "127.0.0.1"}
    return kept | {"PATH": path} | quiet | added


def errors_in(server_log: str, *, passing: str | None = None) -> list[str]:
    """Return the errors in what a Prefect server said, each with its traceback.

    Args:
        server_log: what it said.
        passing: what the last line of those says that pass by themselves; they are left out.
    """
    records = re.split(r"^(?=\d\d:\d\d:\d\d\.\d+ \| )", server_log, flags=re.MULTILINE)
    found = [record for record in records if re.match(r"\S+ \| (ERROR|CRITICAL)\b", record)]
    return [record for record in found if passing is None or passing not in record]


@contextmanager
def postgres() -> Iterator[str]:
    """Run the PostgreSQL of this machine on an empty database `prefect`; gives its port."""
    port, folder = str(free_port()), Path(tempfile.mkdtemp(prefix="postgres-"))
    (folder / "password").write_text(SECRETS["POSTGRES_PASSWORD"])
    user = [] if os.getuid() else ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    if user:  # it refuses to run as root
        owner = pwd.getpwnam("postgres")
        for path in (folder, folder / "password"):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    made = ["--username=prefect", "--auth=scram-sha-256", f"--pwfile={folder}/password", "--no-sync"]
    subprocess.run([*user, _postgres_program("initdb"), *made, folder / "data"], check=True, capture_output=True)
    at = ["-D", folder / "data", "-h", "127.0.0.1", "-p", port, "-k", folder, "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*user, _postgres_program("postgres"), *at], stdout=log, stderr=log, cwd=folder)
    try:
        wait_for_port(int(port), server)
        run_sql(port, "create database prefect", database="postgres")
        yield port
    finally:
        end(server, signal.SIGINT)  # what its manual calls a fast shutdown: clients are disconnected
        shutil.rmtree(folder)


def run_sql(port: str, query: str, *, database: str = "prefect") -> str:
    """Run a query as Prefect's user and return its rows, one a line."""
    command = [_postgres_program("psql"), "-h", "127.0.0.1", "-p", port, "-U", "prefect", "-Atc", query, database]
    environment = {**os.environ, "PGPASSWORD": SECRETS["POSTGRES_PASSWORD"]}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def _postgres_program(name: str) -> str:
    """Return a program of PostgreSQL; Debian keeps those of the server off the search path."""
    found = [*map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), shutil.which(name)]
    if not any(found):
        raise FileNotFoundError(f"{name} is neither in /usr/lib/postgresql nor on PATH; apt-get install postgresql")
    return next(path for path in reversed(found) if path)


@contextmanager
def s3_server(bucket: str) -> Iterator[str]:
    """Run an S3 server that honours conditional puts, with an empty bucket; gives its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3_client(f"http://{host}:{port}").create_bucket(Bucket=bucket)
    yield f"http://{host}:{port}"
    server.stop()


def s3_client(address: str) -> "boto3.client":  # pyright: ignore[reportGeneralTypeIssues]
    """Return a client of the server."""
    keys = {"aws_access_key_id": SECRETS["S3_ACCESS_KEY"], "aws_secret_access_key": SECRETS["S3_SECRET_KEY"]}
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return int(free.getsockname()[1])


def wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + SECONDS
    while True:
        assert server.poll() is None, f"the server ended with status {server.returncode} before it listened"
        assert time.monotonic() < deadline, f"nobody listens on port {port}"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(0.1)


def wait_for_url(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + SECONDS
    while True:
        assert server.poll() is None, f"the server ended with status {server.returncode} before it answered"
        assert time.monotonic() < deadline, f"{url} does not answer"
        with suppress(urllib.error.URLError, OSError), LOCAL.open(url, timeout=5):
            return
        time.sleep(0.3)
