"""What our own modules log where stages run. Light to import: a Dask worker does so where it should answer."""

import logging

_LOGGERS = ("dr_irl", "tasks", "flows")


def log_at_info(on_terminal: bool = False) -> None:
    """Let our own modules log what a watcher of the run wants to know."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        if on_terminal:
            logger.addHandler(logging.StreamHandler())
