"""Starts Python scripts as forks of a process that has imported the large libraries: 6 of the 8 s of a start.

What reads the environment when it is imported, Prefect and our own code above all, is imported after the fork, so a
script behaves as in a process of its own, which it is: with its own environment, session, working folder, output and
end. How a command starts is for tests that run it as users do.

    python preloaded.py SOCKET    serves until its standard input ends
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from flows.commands.quiet import quieten

LIBRARIES = (
    "torch",
    "transformers.models.llama.modeling_llama",
    "peft",
    "sklearn.linear_model",
    "datasets",
    "sentence_transformers",
    "matplotlib.pyplot",
)


class Started:
    """A script at work, or done; what `subprocess.Popen` would be."""

    def __init__(self, connection: socket.socket) -> None:
        """Wait until it has its session and its environment."""
        self._connection = connection
        self._replies = connection.makefile("rb", buffering=0)  # `select` sees no buffer
        begun, _, pid = self._replies.readline().partition(b" ")
        assert begun == b"pid", "the script ended before it began; its standard error says why"
        self.pid = int(pid)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return its status, once it has ended."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its status: negative for a signal."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def _end(self) -> None:
        self.returncode = os.waitstatus_to_exitcode(int(self._replies.readline()))
        self._connection.close()


class Starter:
    """The process that scripts are forked from."""

    def __init__(self, folder: Path) -> None:
        """Start it; its socket and what it says lie in a folder."""
        self._address = str(folder / "socket")
        with (folder / "log").open("w") as log:
            self._server = subprocess.Popen(
                [sys.executable, __file__, self._address],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1"},  # a thread that is there before a fork is not there after it
                start_new_session=True,
            )
        while not Path(self._address).exists():
            assert self._server.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)

    def start(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdin: IO[str],
        stdout: IO[str],
        stderr: IO[str],
    ) -> Started:
        """Start a script, `command[0]`, in a session of its own."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        request = json.dumps({"command": list(command), "env": dict(env), "cwd": str(cwd)}).encode()
        streams = [stream.fileno() for stream in (stdin, stdout, stderr)]
        socket.send_fds(connection, [len(request).to_bytes(4)], streams)
        connection.sendall(request)
        return Started(connection)

    def close(self) -> None:
        """Start no more."""
        self._server.communicate()


def _serve(address: str) -> dict[str, Any] | None:
    """Fork for every request; returns twice or more: in each forked script with its request, at the end with None."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{address}.new")
        listener.listen(64)
        os.rename(f"{address}.new", address)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watchers
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    return _fork_and_watch(connection)
    return None


def _fork_and_watch(connection: socket.socket) -> dict[str, Any]:
    """Return in the script; in its parent wait for its end, say how it was, and end."""
    length, streams, _, _ = socket.recv_fds(connection, 4, 3)
    with connection.makefile("rb") as requests:
        request = json.loads(requests.read(int.from_bytes(length)))
    if script := os.fork():
        _, status = os.waitpid(script, 0)
        connection.sendall(f"{status}\n".encode())
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    connection.sendall(f"pid {os.getpid()}\n".encode())
    return request


def main() -> None:
    """Import, serve, and become what was asked for."""
    quieten(debug=False)  # libraries read it when they are imported
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection would touch every page, and a touched page is copied
    if (request := _serve(sys.argv[1])) is not None:
        sys.argv = request["command"]
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
