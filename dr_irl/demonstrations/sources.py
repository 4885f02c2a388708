"""Reads prompts and demonstrations from the shipped seed files and from Parquet, JSONL and CSV files."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from dr_irl.artifacts.address import S3Address, is_on_s3, parse_address
from dr_irl.artifacts.keys import ACCEPTED
from dr_irl.demonstrations.parse import parse_examples, require_suffix
from dr_irl.errors import DataError
from dr_irl.records import Example

SEED = "seed"
"""The location that stands for the demonstrations shipped here."""
_ACCEPTED_FILE = re.compile(rf"/{ACCEPTED}/[0-9a-f]{{64}}\.\w+$")


def load_examples(
    locations: Sequence[str], *, max_prompt_characters: int, max_bad_rows: float
) -> tuple[list[Example], dict[str, int]]:
    """Read every location, in the order given and row by row; unusable rows are dropped and counted.

    A file needs a column `prompt`. `harm_category`, or `category` where there is no such column, `source` (default:
    the file's name), `split` (default: train), `draft` and `response` are optional; others are ignored.

    Args:
        locations: `seed`, or local or s3:// files whose names end in .parquet, .jsonl or .csv.
        max_prompt_characters: longer prompts are dropped.
        max_bad_rows: share of dropped rows above which a file is refused.

    Returns:
        The rows, and reason -> rows dropped; under `UNKNOWN_CATEGORY`, rows kept without their unknown label.

    Raises:
        DataError: a file is missing, unreadable, empty, of the wrong form, or has too many unusable rows.
    """
    examples: list[Example] = []
    counts: Counter[str] = Counter()
    for location in locations:
        for name, content in _contents(location):
            found, dropped = parse_examples(
                name, content, max_prompt_characters=max_prompt_characters, max_bad_rows=max_bad_rows
            )
            examples += found
            counts.update(dropped)
    return examples, dict(counts)


def source_identity(locations: Sequence[str]) -> dict[str, str]:
    """Return location -> hash of its content (for s3://, of its ETag and size, without a download).

    Raises:
        DataError: a file is missing or cannot be reached.
    """
    return {location: _identity(location) for location in locations}


def newest_first(locations: Sequence[str]) -> list[str]:
    """Return the files that came in through an inbox; they are listed as they came."""
    return [location for location in reversed(locations) if _ACCEPTED_FILE.search(location)]


def _identity(location: str) -> str:
    if is_on_s3(location):
        stamp = _reach(location, "stamp")
        return hashlib.sha256(json.dumps([stamp.etag, stamp.size]).encode()).hexdigest()
    if location == SEED:
        hashes = [(name, hashlib.sha256(content).hexdigest()) for name, content in _contents(location)]
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    return hashlib.sha256(_reach(location, "content")).hexdigest()


def _contents(location: str) -> list[tuple[str, bytes]]:
    if location == SEED:
        return [(path.name, path.read_bytes()) for path in _seed_files()]
    require_suffix(location)
    return [(location, _reach(location, "content"))]


def _seed_files() -> list[Traversable]:
    folder = files("dr_irl.demonstrations") / "seed"
    return sorted((p for p in folder.iterdir() if p.name.endswith(".jsonl")), key=lambda p: p.name)


def _reach(location: str, what: str) -> Any:
    """Return the bytes of a file, or what the server says of an object."""
    place = parse_address(location, "source", DataError)
    try:
        if not isinstance(place, S3Address):
            return place.read_bytes()
        from dr_irl.artifacts.remote import look_at_object, read_object  # a quarter of a second of imports

        return read_object(place, "source") if what == "content" else look_at_object(place, "source")
    except FileNotFoundError:
        raise DataError(
            f"source {location!r} does not exist; allowed are 'seed' and paths of local or s3:// files; check the path"
        ) from None
    except OSError as error:
        raise DataError(
            f"source {location!r} cannot be read: {error}; allowed are readable files; check its permissions"
        ) from error
