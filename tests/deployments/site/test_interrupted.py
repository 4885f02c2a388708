"""One run that is cancelled, loses its worker to SIGTERM, then to SIGKILL, and at last ends; how workers end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from deployed_site import Site, until
from services import Processes, clean_environment

pytestmark = pytest.mark.slow


def test_a_cancelled_run_ends_cancelled(site: Site, cancelled: Any) -> None:
    assert site.state_names(cancelled.run_id)[-2:] == ["Cancelling", "Cancelled"]


def test_a_cancelled_run_leaves_no_process(cancelled: Any) -> None:
    assert cancelled.processes
    assert not [process for process in cancelled.processes if process.is_running()]


def test_the_same_run_goes_on_from_where_it_was_cancelled(terminated: Any) -> None:
    assert terminated.resumed_from() >= 1


def test_a_worker_that_is_terminated_leaves_no_process_of_its_run(terminated: Any) -> None:
    assert terminated.processes
    assert not [process for process in terminated.processes if process.is_running()]


def test_a_run_whose_worker_was_terminated_ends_cancelled(site: Site, terminated: Any) -> None:
    assert site.state_names(terminated.run_id)[-1] == "Cancelled"


def test_a_run_whose_worker_is_terminated_keeps_a_checkpoint_first(terminated: Any, killed: Any) -> None:
    assert killed.resumed_from() > terminated.resumed_from()


def test_a_run_that_was_killed_goes_on_from_its_checkpoint(killed: Any, finished: Any) -> None:
    assert finished.resumed_from() >= killed.resumed_from()


def test_a_run_that_goes_on_builds_no_earlier_stage_again(site: Site, finished: Any) -> None:
    states = {name: run["state"]["name"] for name, run in site.task_runs(finished.run_id).items()}
    assert {name for name, state in states.items() if state != "Cached"} == {"grpo"}


def test_a_run_that_goes_on_comes_to_its_end(site: Site, finished: Any) -> None:
    assert site.flow_run(finished.run_id)["state_type"] == "COMPLETED"


def test_at_the_end_no_checkpoint_and_no_lease_is_left(site: Site, finished: Any) -> None:
    assert (site.keys("checkpoints"), site.keys("leases")) == ([], [])


LAUNCHER = """
import os, sys
from flows.worker import run_worker

sys.exit(run_worker([], os.environ))
"""
WORKER = """
import signal, subprocess, sys, time
from pathlib import Path

signal.signal(signal.SIGTERM, lambda *_: None)  # as good as busy with a server that is gone
runs = {}
while True:
    for name in ("first", "second"):
        if Path(f"start-{name}").exists() and name not in runs:
            runs[name] = subprocess.Popen([sys.executable, "run.py", name])
        if name in runs and runs[name].poll() is not None:
            Path(f"{name}-ended").touch()
    time.sleep(0.05)
"""
RUN = """
import signal, sys, time
from pathlib import Path

name = sys.argv[1]

def ask(*_):
    Path(f"{name}-asked").touch()
    if name == "second":
        sys.exit()

signal.signal(signal.SIGTERM, ask)
Path(f"{name}-runs").touch()
time.sleep(600)
"""


@dataclass(frozen=True)
class Launched:
    """A worker that does not end when asked, with a run whose step takes ten minutes."""

    launcher: subprocess.Popen[bytes]
    started: list[psutil.Process]


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Launched]:
    (tmp_path / "prefect.py").write_text(WORKER)  # found before the real one
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    (tmp_path / "run.py").write_text(RUN)
    (tmp_path / "start-first").touch()
    processes = Processes(tmp_path)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = clean_environment(DR_IRL_GRACE_SECONDS="5", PYTHONPATH=path)
    launcher = processes.start(sys.executable, "launcher.py", environment=environment)
    until((tmp_path / "first-runs").exists)
    started = psutil.Process(launcher.pid).children(recursive=True)
    yield Launched(launcher, started)
    processes.end()
    for process in started:
        if process.is_running():
            process.kill()


def test_a_worker_that_does_not_end_is_killed_with_its_runs(launched: Launched) -> None:
    launched.launcher.terminate()
    assert launched.launcher.wait(60) == 128 + signal.SIGKILL
    assert psutil.wait_procs(launched.started, timeout=3)[1] == []


def test_a_second_signal_ends_a_worker_and_its_runs_at_once(launched: Launched, tmp_path: Path) -> None:
    launched.launcher.terminate()
    until((tmp_path / "first-asked").exists)
    launched.launcher.terminate()
    assert psutil.wait_procs(launched.started, timeout=3)[1] == []


def test_a_run_that_starts_while_its_worker_ends_is_asked_too(launched: Launched, tmp_path: Path) -> None:
    launched.launcher.terminate()
    until((tmp_path / "first-asked").exists)
    (tmp_path / "start-second").touch()
    until((tmp_path / "second-ended").exists, 4)


def test_a_launcher_that_is_killed_takes_its_worker_and_runs_along_and_asks_them_first(
    launched: Launched, tmp_path: Path
) -> None:
    launched.launcher.kill()
    until((tmp_path / "first-asked").exists)
    assert psutil.wait_procs(launched.started, timeout=15)[1] == []


def test_a_worker_that_is_killed_takes_its_runs_and_launcher_along_and_asks_them_first(
    launched: Launched, tmp_path: Path
) -> None:
    [worker] = psutil.Process(launched.launcher.pid).children()
    worker.kill()
    until((tmp_path / "first-asked").exists)
    assert launched.launcher.wait(30) == 128 + signal.SIGKILL
    assert psutil.wait_procs(launched.started, timeout=3)[1] == []
