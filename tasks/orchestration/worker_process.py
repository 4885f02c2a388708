"""What a process that only runs stages does beside them: log, hear that it is to stop, end with the run's process."""

import os
import signal
import time
from multiprocessing import connection, parent_process
from threading import Thread
from types import FrameType

from tasks.orchestration.interruption import request_stop
from tasks.orchestration.logs import log_at_info

_SECONDS_TO_SAVE = 10.0


def prepare_process(on_terminal: bool) -> None:
    """Prepare a child of the run's process.

    Args:
        on_terminal: show log lines on standard error, where the run shows its own.
    """
    log_at_info(on_terminal)
    # A terminal's Ctrl-C reaches every process of the run. Its first one decides, and asks the others by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop_at_next_step)
    Thread(target=_end_with_parent, daemon=True).start()


def prepare_ray_worker() -> None:
    """Prepare a process of Ray's, which asks a stage to stop by SIGINT and ends such processes itself."""
    log_at_info()
    signal.signal(signal.SIGINT, stop_at_next_step)


def stop_at_next_step(number: int, frame: FrameType | None) -> None:
    """Answer a signal; a second one changes nothing."""
    del frame
    request_stop(number)


def _end_with_parent() -> None:
    """End some seconds after the run's process did: killed, it could not say so, and nobody takes results any more."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        request_stop(signal.SIGTERM)
        time.sleep(_SECONDS_TO_SAVE)
        os._exit(128 + signal.SIGTERM)
