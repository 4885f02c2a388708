"""A Prefect worker whose runs keep a checkpoint before it ends, and never outlive it: what `dr-irl worker` starts.

Prefect's own worker, asked to end by SIGTERM, kills its runs where they are; killed, it leaves them behind. Here two
processes look after each other. The first starts the second and, asked to end, first asks the runs: they stop at their
next step, with a checkpoint. The second is Prefect's worker. If the first is killed, the second ends the runs in the
same way, and itself; if the second is killed, the first does.

    python -m flows.worker --pool dr-irl ...        the second; takes the arguments of `prefect worker start`
"""

import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from types import FrameType
from uuid import uuid4

import psutil

_GRACE = "DR_IRL_GRACE_SECONDS"
_DEFAULT_GRACE_SECONDS = 60.0
_MARK = "DR_IRL_WORKER"
"""In the environment of a worker and of all that it starts, by which its runs are known once it is no more."""
_SECONDS_TO_END = 15.0
_SECONDS_BETWEEN_LOOKS = 0.3

Worker = subprocess.Popen[bytes]


def run_worker(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a worker to its end.

    Args:
        arguments: of `prefect worker start`.
        environment: of the worker, and so of its runs.

    Returns:
        Its exit status; 128 and the signal's number where a signal ended it, as a shell says.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        asked.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):  # before it starts: it has a session of its own, and would stay
        signal.signal(number, ask)
    mark = uuid4().hex
    # A session of its own: a terminal's Ctrl-C would reach worker and runs at once. Nothing is ever written into the
    # pipe: it breaks when this process ends, however that ends.
    worker = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.worker", *arguments],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**environment, _MARK: mark},
    )
    runs = _Runs(worker.pid, mark)
    while worker.poll() is None and not asked:
        runs.look()
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    killed = worker.poll() is not None and not asked
    _wait(runs.asked_to_stop_and_ended, _grace_seconds(), asked)
    worker.terminate()
    # It may go on asking a server that is gone.
    _wait(lambda: worker.poll() is not None, _SECONDS_TO_END, asked)
    runs.kill()
    worker.kill()
    status = worker.wait()
    if killed:
        print(f"dr-irl: the worker ended by itself, with status {status}; its runs were stopped", file=sys.stderr)
    return status if status >= 0 else 128 - status


@dataclass
class _Runs:
    """The runs of a worker, also when it is no more: the system then forgets whose children they were."""

    worker_pid: int
    mark: str
    seen: set[psutil.Process] = field(default_factory=set)
    told: set[psutil.Process] = field(default_factory=set)

    def look(self) -> set[psutil.Process]:
        """Return those that run now."""
        try:
            self.seen |= set(psutil.Process(self.worker_pid).children())
        except psutil.NoSuchProcess:
            self.seen |= _orphans(self.mark)
        self.seen = {run for run in self.seen if _runs(run)}
        return self.seen

    def asked_to_stop_and_ended(self) -> bool:
        """Ask those that were not asked yet; tells whether none is left."""
        for run in self.look() - self.told:  # the worker may have started one since the last look
            _send(signal.SIGTERM, run)
            self.told.add(run)
        return not self.seen

    def kill(self) -> None:
        """End what is left of them, and what they started."""
        for run in self.look():
            try:
                family = [run, *run.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for process in family:
                _send(signal.SIGKILL, process)


def _orphans(mark: str) -> set[psutil.Process]:
    """Return what a worker that is no more had started; not what that started in its turn."""
    marked = {process.pid: process for process in psutil.process_iter() if _mark_of(process) == mark}
    return {process for process in marked.values() if _parent_of(process) not in marked}


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(_MARK)
    except (psutil.Error, OSError):  # another user's, or one that has just ended
        return None


def _parent_of(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _grace_seconds() -> float:
    return float(os.environ.get(_GRACE, _DEFAULT_GRACE_SECONDS))


def _wait(ended: Callable[[], bool], seconds: float, asked: Sequence[int]) -> None:
    """Wait until something has ended, for so many seconds or until a second signal comes."""
    deadline = time.monotonic() + seconds
    while not ended() and len(asked) < 2 and time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _send(number: int, process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):  # it ended by itself
        process.send_signal(number)


def main() -> None:
    """Be Prefect's worker, until the process that started this one is gone."""
    Thread(target=_end_with_starter, daemon=True).start()
    sys.argv[1:1] = ["worker", "start"]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


def _end_with_starter() -> None:
    os.read(sys.stdin.fileno(), 1)  # unbuffered: a thread in the lock of `sys.stdin` spoils the end of the process
    runs = _Runs(os.getpid(), os.environ.get(_MARK, ""))
    _wait(runs.asked_to_stop_and_ended, _grace_seconds(), ())
    runs.kill()
    os._exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    main()
