"""Leaves the terminal to progress and results."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer


def quieten(debug: bool) -> None:
    """Keep libraries off the terminal and let our own lines through; before Prefect and transformers are imported."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # A busy machine needs longer than the default 20 s for the temporary server; a slow start is no failure.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not debug:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for name in ("dr_irl", "tasks", "flows"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.handlers = [_TerminalHandler()]
    warnings.filterwarnings("ignore", category=FutureWarning)


@contextmanager
def silenced() -> Iterator[None]:
    """Log nothing at all for a while."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


class _TerminalHandler(logging.Handler):
    """Shows what our own modules log, as lines among the progress."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)
