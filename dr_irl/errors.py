"""What can go wrong for reasons a user can mend. Anything else is a defect and shows a traceback."""

import re
import signal

_USER_AND_PASSWORD = re.compile(r"(?i)((?:\b[a-z][a-z0-9+.-]*://|\bs3[an]?:/*))(?:[^\s/'\"@]*:[^\s'\"]*|[^\s/'\"@]+)@")
_SIGNED_QUERY = re.compile(r"(://[^\s?'\"]*\?)[^\s'\"]*=[^\s'\"]*")


def without_secrets(text: str) -> str:
    """Cut user, password and query out of every address in a text: whoever reads a message need not know them.

    A secret key may hold slashes, so all before the last `@` of an address goes, rather too much than too little.
    """
    return _SIGNED_QUERY.sub(r"\1***", _USER_AND_PASSWORD.sub(r"\1***@", text))


class DrIrlError(Exception):
    """Raised when a run cannot go on; the message says what, where, what is allowed and what to do, and no secret."""

    exit_status = 1

    def __init__(self, *args: object) -> None:
        """Take the message, and cut secrets from it: what it quotes may have been typed with a password in it."""
        super().__init__(*(without_secrets(each) if isinstance(each, str) else each for each in args))


class UserError(DrIrlError):
    """Raised when an input, a setting or the environment is at fault."""

    exit_status = 2


class SettingsError(UserError):
    """Raised when a profile or setting is unknown, mistyped or out of range."""


class DataError(UserError):
    """Raised when a data file is missing, unreadable or has the wrong columns, types or contents."""


class ModelError(UserError):
    """Raised when a model cannot be found or is not of the expected kind."""


class StoreError(UserError):
    """Raised when the artifact store cannot be reached, read or written."""


class StoreUnreachableError(StoreError):
    """Raised when the network or the server is at fault, which may pass by itself."""


class CorruptArtifactError(DrIrlError):
    """Raised when an artifact's files do not match its manifest."""


class DivergenceError(DrIrlError):
    """Raised when a loss or reward is not finite."""


class CollapseError(DrIrlError):
    """Raised when a policy shows a sign of collapse, and is to stop there."""


class GateError(DrIrlError):
    """Raised when a result may not replace the champion."""

    exit_status = 3


class InterruptedRunError(DrIrlError):
    """Raised when a run was asked to stop, and did so at the next step."""

    exit_status = 128 + signal.SIGTERM

    @classmethod
    def by_signal(cls, number: int) -> "InterruptedRunError":
        """Say what a signal did to a run and what to do next; the exit status is what a shell makes of the signal."""
        how = "interrupted" if number == signal.SIGINT else "stopped by SIGTERM"
        error = cls(
            f"{how}; finished stages and the last checkpoint are in the store, the same command goes on from there"
        )
        error.exit_status = 128 + number
        return error


class StageTimeoutError(DrIrlError):
    """Raised when a stage took longer than it may, and stopped at its next step."""
