"""Names inside a store: which are allowed, and where each kind of thing lies."""

import re
import uuid

from dr_irl.errors import StoreError

MARKER = ".dr-irl-store"
OBJECTS, STAGING, DAMAGED, LEASES, CHECKPOINTS = "objects", "staging", "damaged", "leases", "checkpoints"
RESULTS, RUNS, ABLATIONS = "results", "runs", "ablations"
INBOX, ACCEPTED, MODELS = "inbox", "accepted", "models"
TOP_LEVEL = frozenset(
    {OBJECTS, STAGING, DAMAGED, LEASES, CHECKPOINTS, RESULTS, RUNS, ABLATIONS, INBOX, ACCEPTED, MODELS, MARKER}
)
MANIFEST_NAME = "manifest.json"
RUNNING, CLEARING = f"{LEASES}/.running", f"{LEASES}/.clearing"
"""Leases of whole runs, each with what it needs; and the lease of whoever deletes what nobody does."""

_TEMPORARY = re.compile(r"^\..+\.[0-9a-f]{32}$")


def require_plain_key(key: str) -> str:
    """Return `key` if it names a file or folder below the store's root, and nothing outside it.

    Raises:
        StoreError: it is empty, absolute, has a part that is empty, `.` or `..`, or is no text that can name a file.
    """
    if any(part in ("", ".", "..") for part in key.split("/")) or not _can_name_a_file(key):
        raise StoreError(f"{key!r} is no key of the store; allowed are names joined by '/', without '.' and '..'")
    return key


def _can_name_a_file(key: str) -> bool:
    try:
        return b"\0" not in key.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def object_key(stage: str, fingerprint: str) -> str:
    """Return where the files of an artifact lie."""
    return require_plain_key(f"{OBJECTS}/{stage}/{fingerprint}")


def manifest_key(stage: str, fingerprint: str) -> str:
    """Return where the manifest of an artifact lies."""
    return f"{object_key(stage, fingerprint)}/{MANIFEST_NAME}"


def damaged_key(stage: str, fingerprint: str) -> str:
    """Return a new place for a damaged copy of an artifact."""
    return require_plain_key(f"{DAMAGED}/{stage}/{fingerprint}-{uuid.uuid4().hex[:8]}")


def temporary_name(name: str) -> str:
    """Return the hidden name under which a file called `name` is written before it is renamed."""
    return f".{name}.{uuid.uuid4().hex}"


def is_temporary(name: str) -> bool:
    """Tell whether a file's name is one that `temporary_name` made: a write that was cut off left it."""
    return _TEMPORARY.match(name) is not None
