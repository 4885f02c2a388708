"""A Prefect server for one run, which ends when the run's process does, however that ends.

Prefect starts one by itself, but among the processes that Ctrl-C reaches: that server is gone at once, and the run
spends minutes asking for it. After `kill -9` that server stays. And it lets everyone in: any user of the machine, and
any page that a browser on it has open.
"""

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from signal import SIGTERM
from threading import Thread

from dr_irl.errors import UserError

_START_SECONDS = 180
_STOP_SECONDS = 5
_LIGHT = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""What Prefect sets for a server of this kind."""


class TemporaryServer:
    """A server in a session of its own, so that no signal for the run reaches it."""

    def __init__(self) -> None:
        """Start it; it is up some seconds later."""
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        self.api = f"http://127.0.0.1:{port}/api"
        self._login = f"dr-irl:{secrets.token_urlsafe(32)}"
        closed = {
            "PREFECT_SERVER_API_AUTH_STRING": self._login,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}",
        }
        # Nothing is ever written into the pipe. It breaks when this process ends, and that is what ends the server.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.commands.temporary_server", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | _LIGHT | closed,
            start_new_session=True,
        )

    def use(self) -> None:
        """Have this process, and those it starts, talk to the server; call it before Prefect is imported."""
        os.environ.pop("PREFECT_API_KEY", None)
        os.environ |= {"PREFECT_API_URL": self.api, "PREFECT_API_AUTH_STRING": self._login}

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            UserError: it does not.
        """
        local = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + _START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(urllib.error.URLError, OSError), local.open(f"{self.api}/health", timeout=5):
                return
            time.sleep(0.1)
        status = self._process.poll()
        what = f"gave no answer in {_START_SECONDS} s" if status is None else f"ended with status {status}"
        raise UserError(
            f"the temporary Prefect server {what}; look for the reason with 'prefect server start', and set "
            "PREFECT_API_URL to its address to run with that one"
        )


def main() -> None:
    """Serve at the port that was given until standard input ends."""
    Thread(target=_end_with_parent, daemon=True).start()
    import uvicorn

    uvicorn.run("prefect.server.api.server:create_app", factory=True, port=int(sys.argv[1]), log_level="error")


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), SIGTERM)
    time.sleep(_STOP_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main()
