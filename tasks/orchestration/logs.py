"""What the log of a run says: our own modules' lines, and Prefect's as sentences that name their stage.

Light to import: a Dask worker does so where it should answer.
"""

import ast
import logging
import re

from dr_irl.errors import DrIrlError

_OURS = ("dr_irl", "tasks", "flows")
_PREFECTS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")

_ENDED = re.compile(r"Finished in state (?P<state>\w+)\((?P<message>'.*'|\".*\")?(, )?(type=[A-Z]+)?\)")
_HOW = {
    "Completed": "completed",
    "Cached": "was in the store already",
    "Cancelled": "was cancelled",
    "Failed": "failed",
    "GateFailed": "was refused",
    "TimedOut": "ran out of time",
    "Crashed": "crashed",
}
_NO_END = ("NotReady", "Pending", "Running", "Cancelling")
"""Of a stage that waited in vain for another, and of a run that its worker is cancelling."""
_GOOD_ENDS = ("Completed", "Cached", "Cancelled")

_RETRY = re.compile(r"Task run failed with .* - Retry (?P<when>\d+/\d+ will start .*)", re.DOTALL)
_SAYS_NOTHING = re.compile(
    # Of a run that a signal ends outside of its flow's function: `flows.declaring` says what becomes of it.
    r"Running hook .*|Hook .* finished running successfully|Execution of flow run .* was terminated\."
    r"|(Crash detected! |Finished in state Crashed\(')Execution was aborted by an? (interrupt|termination) signal\..*"
)
_SAID_TWICE = "Engine execution exited with unexpected exception"
"""Of a run that has ended in the state of its failure, which is said by then."""
_CANCELLED = "the run was cancelled: finished stages and the last checkpoint are in the store, from where it can go on"


def log_at_info(on_terminal: bool = False) -> None:
    """Let our own modules log what a watcher of the run wants to know, and let Prefect's speak plainly.

    Only our own: at INFO, other libraries tell of every request.
    """
    for name in _OURS:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
        if on_terminal:
            logger.addHandler(logging.StreamHandler())
    for name in _PREFECTS:
        logging.getLogger(name).addFilter(_plainly)


def _plainly(record: logging.LogRecord) -> bool:
    """Reword a line of Prefect's, or drop it; our own errors are sentences and need no traceback."""
    error = record.exc_info[1] if record.exc_info else None
    said = record.getMessage()
    if isinstance(error, DrIrlError):
        record.msg, record.args, record.exc_info = str(error), (), None
        return said != _SAID_TWICE
    if _SAYS_NOTHING.fullmatch(said):
        return False
    if said == "Flow run was cancelled.":
        record.msg, record.args = _CANCELLED, ()
    elif retry := _RETRY.fullmatch(said):
        record.msg, record.args = f"{_subject(record)}: try {retry['when']}", ()
    elif ended := _ENDED.fullmatch(said):
        return _say_end(record, ended["state"], ast.literal_eval(ended["message"] or "''"))
    return True


def _say_end(record: logging.LogRecord, state: str, message: str) -> bool:
    """Say how a stage or a run ended; False if it did not."""
    if state in _NO_END:
        return False
    record.levelno = logging.INFO if state in _GOOD_ENDS else logging.ERROR
    record.levelname = logging.getLevelName(record.levelno)
    how = f"{_subject(record)} {_HOW.get(state, f'ended as {state}')}"
    if message and state in ("Completed", "Cached") and _stage(record):
        how, message = message, ""  # it says what was built or found
    record.msg, record.args = f"{how}: {message}" if message else how, ()
    return True


def _subject(record: logging.LogRecord) -> str:
    return _stage(record) or "the run"


def _stage(record: logging.LogRecord) -> str:
    return str(getattr(record, "task_run_name", "")).strip()
