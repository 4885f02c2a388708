"""A site where people retrain a model: what they type, what they see in the UI, and the server behind it."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from services import (
    LOCAL,
    LOGIN,
    ROOT,
    SECONDS,
    Processes,
    Service,
    clean_environment,
    errors_in,
    free_port,
    postgres,
    s3_client,
    s3_server,
    wait_for_port,
    wait_for_url,
)

Run = dict[str, Any]
"""A flow run, as the API describes it."""
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
BUCKET, PREFIX = "dr-irl", "store"
REHEARSAL = "rehearsal"
"""What a retraining on the site is published as."""


@dataclass
class Site:
    """A Prefect server on PostgreSQL, a store in S3, and workers."""

    address: str
    database_port: str
    s3_address: str
    instead: Mapping[str, str]
    """What stands in compose.yaml -> what it is here."""
    processes: Processes
    environment: Mapping[str, str]
    """A user's."""
    server: subprocess.Popen[bytes]
    store: str = f"s3://{BUCKET}/{PREFIX}"
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of the site would, in an unrelated folder."""
        return subprocess.run(
            command,
            env={**self.environment, **environment},
            cwd=self.processes.folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    def watch(self, deployment: str, **parameters: Any) -> subprocess.CompletedProcess[str]:
        """Start a run of a deployment as the example for CI does, and wait for its end."""
        given = [word for name, value in parameters.items() for word in ("--param", f"{name}={json.dumps(value)}")]
        return self.run(ROOT / "deployments" / "ci" / "train-and-wait.sh", deployment, *given)

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a run as the UI's form does; gives its id."""
        found = self.ask(f"deployments/name/{deployment}")
        return self.ask(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})["id"]

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Get from the server's API or, with a body, post to it."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **LOGIN}
        request = urllib.request.Request(f"{self.address}/api/{path}", data, headers)
        with LOCAL.open(request, timeout=30) as answer:
            return json.load(answer)

    def delete(self, path: str) -> None:
        """Delete what the server's API has at a path."""
        with LOCAL.open(
            urllib.request.Request(f"{self.address}/api/{path}", headers=LOGIN, method="DELETE"), timeout=30
        ):
            return

    def page(self, path: str) -> str:
        """Get a page of the UI."""
        with LOCAL.open(f"{self.address}{path}", timeout=30) as answer:
            return answer.read().decode()

    def flow_run(self, run_id: str) -> Run:
        """Return a run."""
        return self.ask(f"flow_runs/{run_id}")

    def newest_run(self) -> Run:
        """Return the run that was started last; those that wait for their time are not."""
        begun = {"flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}}}
        return self.ask("flow_runs/filter", {**begun, "sort": "EXPECTED_START_TIME_DESC", "limit": 1})[0]

    def wait(self, run_id: str, states: set[str] = FINAL, seconds: float = SECONDS) -> Run:
        """Wait until a run is in one of these states, and return it."""

        def arrived() -> Run | None:
            run = self.flow_run(run_id)
            return run if run["state_type"] in states else None

        return until(arrived, seconds, lambda: f"{run_id} is {self.flow_run(run_id)['state']}")

    def state_names(self, run_id: str) -> list[str]:
        """Return the states a run went through."""
        states = self.ask(f"flow_run_states/?flow_run_id={run_id}")
        return [state["name"] for state in sorted(states, key=lambda state: state["timestamp"])]

    def task_runs(self, run_id: str) -> dict[str, Run]:
        """Return the newest task run of each name in a run."""
        body = {"flow_runs": {"id": {"any_": [run_id]}}, "sort": "EXPECTED_START_TIME_DESC"}
        return {run["name"].strip(): run for run in reversed(self.ask("task_runs/filter", body))}

    def log_lines(self, run_id: str) -> list[Run]:
        """Return what a run logged."""
        return self.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"})

    def artifacts(self, run_id: str) -> dict[str, Run]:
        """Return the artifacts on the page of a run, by key."""
        body = {"artifacts": {"flow_run_id": {"any_": [run_id]}}, "limit": 200}
        return {found["key"]: found for found in self.ask("artifacts/filter", body) if found["key"]}

    def keys(self, folder: str) -> list[str]:
        """List what the store has in a folder."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{PREFIX}/{folder}/")
        return [entry["Key"].removeprefix(f"{PREFIX}/") for page in pages for entry in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        """Read an object of the store."""
        return self._s3.get_object(Bucket=BUCKET, Key=f"{PREFIX}/{key}")["Body"].read()

    def write(self, key: str, content: bytes) -> None:
        """Write an object of the store."""
        self._s3.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{key}", Body=content)

    @cached_property
    def _s3(self) -> Any:
        return s3_client(self.s3_address)

    def server_log(self) -> str:
        """Return what the server said so far."""
        return self.processes.said(self.server)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker as compose.yaml does, in an unrelated folder, and wait until it says it is well."""
        described, port = Service.read("worker", instead=self.instead), free_port()
        worker = self.processes.start(
            *described.command,
            environment={
                **self.environment,
                **described.environment,
                "PREFECT_WORKER_WEBSERVER_PORT": str(port),
            },
        )
        wait_for_port(port, worker)
        self.workers.append(worker)
        return worker

    def bootstrap(self) -> None:
        """Prepare the server, as compose.yaml does."""
        prepared = self.run(*Service.read("bootstrap", instead=self.instead).command)
        assert prepared.returncode == 0, prepared.stdout + prepared.stderr


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Start the services of compose.yaml in its order: database, S3, server, bootstrap (twice), worker."""
    processes = Processes(folder)
    with postgres() as database_port, s3_server(BUCKET) as s3_address:
        try:
            yield (site := _start(processes, database_port, s3_address))
            # Whole kinds of faults stand nowhere else: a scheduler that fails once a minute, for one.
            assert errors_in(site.server_log()) == []
        finally:
            processes.end()


def _start(processes: Processes, database_port: str, s3_address: str) -> Site:
    address = f"http://127.0.0.1:{free_port()}"
    instead = {
        "http://server:4200": address,
        "http://127.0.0.1:4200": address,
        "http://s3:9000": s3_address,
        "0.0.0.0": "127.0.0.1",
        "4200": address.rpartition(":")[2],
        "5432": database_port,
        "/opt/dr-irl": str(ROOT),
    }
    home = clean_environment(PREFECT_HOME=str(processes.folder / "home"), DR_IRL_CACHE=str(processes.folder / "cache"))
    described, bootstrap = (Service.read(name, instead=instead) for name in ("server", "bootstrap"))
    database = {**described.environment, "PREFECT_SERVER_DATABASE_HOST": "127.0.0.1"}
    server = processes.start(*described.command, environment={**home, **database})
    users = {**home, **bootstrap.environment, "DR_IRL_PROFILE": "rehearse-pass", "DR_IRL_PROMOTE": REHEARSAL}
    site = Site(address, database_port, s3_address, instead, processes, users, server)
    wait_for_url(f"{address}/api/health", server)
    for _ in range(2):
        site.bootstrap()
    site.start_worker()
    return site


def until(happened: Callable[[], Any], seconds: float = SECONDS, seen: Callable[[], str] = lambda: "") -> Any:
    """Wait until something is there, and return it; `seen` says what was there instead."""
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s; {seen()}"
        time.sleep(0.3)
    return found
