"""The identity of an artifact: its settings, its inputs and the code that makes it."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> str:
    """Serialise to JSON with sorted keys and no spaces; refuses NaN and infinity with a ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint_of(
    stage: str, settings: Mapping[str, Any], inputs: Mapping[str, str], source: Mapping[str, str]
) -> str:
    """Fingerprint one artifact (32 hex digits).

    Args:
        stage: name of the stage that makes it.
        settings: the JSON-serialisable settings that shape it, and no others.
        inputs: name -> fingerprint or content hash of each input.
        source: name -> hash of each function and module that makes it.
    """
    identity = {"stage": stage, "settings": dict(settings), "inputs": dict(inputs), "source": dict(source)}
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:32]


def file_sha256(path: Path) -> str:
    """Hash a file's bytes (64 hex digits)."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
