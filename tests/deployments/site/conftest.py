"""One site for all tests of deployments, one run of the smoke profile on it, and one that is interrupted thrice."""

import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from deployed_site import FINAL, Site, running_site, until

LONG = {"grpo.steps": 60}
"""Long enough to be interrupted three times in the middle."""
OFTEN, NEVER = {"grpo.checkpoint_every": 1}, {"grpo.checkpoint_every": 1000}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Prefect's server on PostgreSQL, a store in S3, a worker; bootstrapped twice."""
    with running_site(tmp_path_factory.mktemp("site")) as started:
        yield started


@dataclass(frozen=True)
class Watched:
    """A run that was started from a shell with `--watch`, to its end."""

    command: subprocess.CompletedProcess[str]
    run_id: str
    records: set[str]
    """What it added to the records of runs in the store."""


@pytest.fixture(scope="session")
def smoke_run(site: Site) -> Watched:
    """Run the `train` deployment on the smoke profile."""
    before = set(site.keys("runs"))
    command = site.watch("train/train", profile="smoke")
    assert command.returncode == 0, command.stdout + command.stderr
    return Watched(command, site.newest_run()["id"], set(site.keys("runs")) - before)


@dataclass(frozen=True)
class LongRun:
    """A run that came to the middle of GRPO; the stages before it were in the store."""

    site: Site
    run_id: str
    processes: list[psutil.Process]
    """Its own, started by the worker."""

    def resumed_from(self) -> int:
        """Return the step of GRPO that it went on from, as its page says; 0 if it began anew."""
        pattern = re.compile(r"going on from step (\d+) of the checkpoint checkpoints/grpo/")
        found = (pattern.search(line["message"]) for line in self.site.log_lines(self.run_id))
        return next((int(match[1]) for match in found if match), 0)


def start_long_run(site: Site, checkpoints: Mapping[str, Any], *, resumed: bool) -> LongRun:
    """Start it, and come back when it is in GRPO: when it has kept a checkpoint or, later, gone on from one."""
    run_id = site.start("train/train", profile="smoke", overrides={**LONG, **checkpoints}, only=["grpo"])
    run = LongRun(site, run_id, [])

    def in_grpo() -> bool:
        assert (state := site.flow_run(run_id)["state"])["type"] not in FINAL, state
        return run.resumed_from() > 0 if resumed else bool(site.keys("checkpoints/grpo"))

    until(in_grpo)
    [worker] = psutil.Process(site.workers[-1].pid).children()
    run.processes.extend(worker.children(recursive=True))
    return run


@pytest.fixture(scope="session")
def cancelled(site: Site, smoke_run: Watched) -> LongRun:
    """A long run that was cancelled."""
    assert not site.keys("checkpoints/grpo")
    run = start_long_run(site, OFTEN, resumed=False)
    asked = site.run("prefect", "flow-run", "cancel", run.run_id)
    assert asked.returncode == 0, asked.stdout + asked.stderr
    site.wait(run.run_id)
    psutil.wait_procs(run.processes, timeout=40)
    return run


@pytest.fixture(scope="session")
def terminated(site: Site, cancelled: LongRun) -> LongRun:
    """The same run, started again; its worker was sent SIGTERM. It was to keep no checkpoint before its end."""
    run = start_long_run(site, NEVER, resumed=True)
    worker = site.workers.pop()
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    psutil.wait_procs(run.processes, timeout=40)
    return run


@pytest.fixture(scope="session")
def killed(site: Site, terminated: LongRun) -> LongRun:
    """The same run, started again by a new worker; both were killed."""
    site.start_worker()
    run = start_long_run(site, OFTEN, resumed=True)
    launcher = psutil.Process(site.workers.pop().pid)
    for process in [launcher, *launcher.children(recursive=True)]:
        process.kill()
    return run


@pytest.fixture(scope="session")
def finished(site: Site, killed: LongRun) -> LongRun:
    """The same run, started again by a new worker, to its end."""
    site.start_worker()
    run = start_long_run(site, NEVER, resumed=True)  # a checkpoint takes longer than a step
    site.wait(run.run_id)
    return run
