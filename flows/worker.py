"""A Prefect worker whose runs keep a checkpoint before it ends.

python -m flows.worker --pool dr-irl --type process

Prefect's own worker, asked to end by SIGTERM, kills its runs where they are. This starts it with the same arguments
and, asked to end, first asks the runs: they stop at their next step, with a checkpoint. A second signal ends all.
"""

import os
import signal
import subprocess
import sys
from threading import Event
from types import FrameType

import psutil

_GRACE = "DR_IRL_GRACE_SECONDS"
_DEFAULT_GRACE_SECONDS = 60.0
_SECONDS_TO_END = 15.0


def main() -> int:
    """Run the worker to its end, and return its exit status."""
    asked = Event()

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        if asked.is_set():
            _kill(worker.pid)
        asked.set()

    # A session of its own: a terminal's Ctrl-C would reach worker and runs at once.
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", *sys.argv[1:]], start_new_session=True
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    while worker.poll() is None and not asked.wait(0.5):
        continue
    if worker.poll() is None:
        _end(worker, float(os.environ.get(_GRACE, _DEFAULT_GRACE_SECONDS)))
    return worker.returncode


def _end(worker: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """Let the runs keep a checkpoint, then end the worker and whatever is left."""
    runs = psutil.Process(worker.pid).children()
    for run in runs:
        run.terminate()
    psutil.wait_procs(runs, timeout=grace_seconds)
    worker.terminate()
    try:
        worker.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:  # its server is gone, and it goes on asking
        _kill(worker.pid)
        worker.wait()


def _kill(pid: int) -> None:
    """Kill a process and all that it started."""
    try:
        worker = psutil.Process(pid)
        family = [*worker.children(recursive=True), worker]
    except psutil.NoSuchProcess:
        return
    for process in family:
        process.kill()


if __name__ == "__main__":
    sys.exit(main())
