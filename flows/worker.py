"""A Prefect worker whose runs keep a checkpoint before it ends.

python -m flows.worker --pool dr-irl --type process

Prefect's own worker, asked to end by SIGTERM, kills its runs where they are. This starts it with the same arguments
and, asked to end, first asks the runs: they stop at their next step, with a checkpoint. A second signal ends all.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType

import psutil

_GRACE = "DR_IRL_GRACE_SECONDS"
_DEFAULT_GRACE_SECONDS = 60.0
_SECONDS_TO_END = 15.0
_SECONDS_BETWEEN_LOOKS = 0.2

Worker = subprocess.Popen[bytes]


def main() -> int:
    """Run the worker to its end, and return its exit status."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        asked.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):  # before it starts: it has a session of its own, and would stay
        signal.signal(number, ask)
    # A session of its own: a terminal's Ctrl-C would reach worker and runs at once.
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", *sys.argv[1:]], start_new_session=True
    )
    while worker.poll() is None and not asked:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if worker.poll() is None:
        _end(worker, asked, float(os.environ.get(_GRACE, _DEFAULT_GRACE_SECONDS)))
    status = worker.wait()
    return status if status >= 0 else 128 - status  # as a shell says that a signal ended it


def _end(worker: Worker, asked: list[int], grace_seconds: float) -> None:
    """Let the runs keep a checkpoint, then end the worker and whatever is left."""
    told: set[psutil.Process] = set()

    def runs_have_ended() -> bool:
        runs = set(_children(worker))
        for run in runs - told:  # the worker may have started one since the last look
            _send(signal.SIGTERM, run)
        told.update(runs)
        return not runs

    _wait(runs_have_ended, grace_seconds, asked)
    left = _children(worker, recursive=True)
    worker.terminate()
    # It may go on asking a server that is gone.
    _wait(lambda: worker.poll() is not None, _SECONDS_TO_END, asked)
    for process in left:
        _send(signal.SIGKILL, process)
    worker.kill()


def _wait(ended: Callable[[], bool], seconds: float, asked: list[int]) -> None:
    """Wait until something has ended, for so many seconds or until a second signal comes."""
    deadline = time.monotonic() + seconds
    while not ended() and len(asked) < 2 and time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _children(worker: Worker, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return psutil.Process(worker.pid).children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def _send(number: int, process: psutil.Process) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:  # it ended by itself
        return


if __name__ == "__main__":
    sys.exit(main())
