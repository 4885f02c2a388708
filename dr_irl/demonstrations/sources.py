"""Reads prompts and demonstrations from the shipped seed files and from Parquet, JSONL and CSV files."""

import glob
import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any

from dr_irl.artifacts.address import S3Address, is_on_s3, parse_address
from dr_irl.artifacts.keys import ACCEPTED
from dr_irl.demonstrations.dedupe import LeftOut
from dr_irl.demonstrations.parse import Parsed, parse_examples
from dr_irl.errors import DataError
from dr_irl.records import Example, Quarantined
from dr_irl.tables.formats import CODECS, SUFFIXES, is_readable, require_suffix

logger = logging.getLogger(__name__)

SEED = "seed"
"""The location that stands for the demonstrations shipped here."""
_ACCEPTED_FILE = re.compile(rf"/{ACCEPTED}/[0-9a-f]{{64}}(\.\w+){{1,2}}$")


def load_examples(
    locations: Sequence[str], *, max_prompt_characters: int | None, max_bad_rows: float, prompts_only: bool = False
) -> tuple[list[Example], list[Quarantined]]:
    """Read every location, in the order given and row by row; unusable rows are left out, each with its reason.

    A file needs a column `prompt`. `harm_category`, or `category` where there is no such column, `source` (default:
    the file's name), `split` (default: train), `draft` and `response` are optional; others are ignored.

    Args:
        locations: `seed`, or files, folders and patterns, local or s3://: .parquet, .jsonl and .csv, also packed.
        max_prompt_characters: longer prompts are left out; None: none is too long.
        max_bad_rows: share of unusable rows above which a file is refused.
        prompts_only: nothing but the prompts counts, as in an evaluation set.

    Returns:
        The rows, and those that are left out. Rows whose label is none of ours are among the first, without a category.

    Raises:
        DataError: a file is missing, unreadable, empty, of the wrong form, or has too many unusable rows.
    """
    limits = {"max_prompt_characters": max_prompt_characters, "max_bad_rows": max_bad_rows}
    examples: list[Example] = []
    bad: list[Quarantined] = []
    for location in locations:
        for name, content in _contents(location):
            parsed = parse_examples(name, content, **limits, prompts_only=prompts_only)
            _tell(name, parsed)
            examples += parsed.examples
            bad += [Quarantined(name, number, "sources", reason) for number, reason in parsed.bad]
    return examples, bad


def quarantined(left_out: LeftOut, stage: str) -> list[Quarantined]:
    """Enter rows that a stage leaves out."""
    return [Quarantined(example.file, example.row, stage, reason) for example, reason in left_out]


def rows_by_reason(rows: Iterable[Quarantined]) -> dict[str, dict[str, int]]:
    """Count rows as file -> reason -> how many, in order of name."""
    counts = sorted(Counter((row.file, row.reason) for row in rows).items())
    return {file: {reason: n for (name, reason), n in counts if name == file} for (file, _), _ in counts}


def _tell(name: str, parsed: Parsed) -> None:
    """Say what a user would not expect of a file."""
    rows = len(parsed.examples) + len(parsed.bad)
    if parsed.bad:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(Counter(r for _, r in parsed.bad).items()))
        logger.warning("source %r: %d of %d rows are left out: %s", name, len(parsed.bad), rows, reasons)
    if parsed.unknown_labels:
        logger.warning(
            "source %r: %d of %d rows have a category that is none of ours; the router gives them one",
            name,
            parsed.unknown_labels,
            rows,
        )
    if parsed.unread:
        logger.warning(
            "source %r has no column 'response', so its rows have no demonstration; answers are not read from %s; put "
            "the one to be learnt under 'response'",
            name,
            ", ".join(map(repr, parsed.unread)),
        )


def evaluation_prompts(files: Sequence[str], *, max_bad_rows: float) -> dict[str, list[str]]:
    """Read the prompts that must not be trained on, of any length: file -> prompts.

    Raises:
        DataError: a file cannot be read, or too many of its rows have no prompt.
    """
    everything = {"max_prompt_characters": None, "max_bad_rows": max_bad_rows, "prompts_only": True}
    return {name: [example.prompt for example in load_examples([name], **everything)[0]] for name in files}


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
    if location == SEED:
        hashes = [(name, hashlib.sha256(content).hexdigest()) for name, content in _contents(location)]
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    if (found := _files(location)) != [location]:
        return hashlib.sha256(json.dumps([(name, _identity(name)) for name in found]).encode()).hexdigest()
    if is_on_s3(location):
        stamp = _reach(location, "stamp")
        return hashlib.sha256(json.dumps([stamp.etag, stamp.size]).encode()).hexdigest()
    return hashlib.sha256(_reach(location, "content")).hexdigest()


def _contents(location: str) -> Iterator[tuple[str, bytes]]:
    if location == SEED:
        yield from ((path.name, path.read_bytes()) for path in _seed_files())
        return
    for name in _files(location):
        require_suffix(name)
        yield name, _reach(name, "content")


def _files(location: str) -> list[str]:
    """Return the files that a location stands for: itself, or those of a folder or pattern, in order of name.

    Raises:
        DataError: there is none.
    """
    place = parse_address(location, "source", DataError)
    if isinstance(place, S3Address):
        found = _objects(location) if "*" in location or not is_readable(location) else [location]
    elif place.is_dir():
        found = [str(path) for path in place.rglob("*") if path.is_file()]
    elif not place.exists() and any(mark in location for mark in "*?["):
        found = [path for path in glob.glob(str(place), recursive=True) if Path(path).is_file()]
    else:
        return [location]
    found = sorted(name for name in found if is_readable(name) and not PurePosixPath(name).name.startswith((".", "_")))
    if not found:
        raise DataError(
            f"source {location!r} stands for no file that can be read; allowed are {', '.join(SUFFIXES)}, each also "
            f"packed ({', '.join(CODECS)}); check the path"
        )
    return found


def _objects(location: str) -> list[str]:
    """Return the objects below a prefix, or of a pattern of which `*` alone is a mark: keys may hold the others."""
    from dr_irl.artifacts.remote import list_objects

    fixed, star, _ = location.partition("*")
    folder = fixed.rpartition("/")[0] if star else location.rstrip("/")
    place = parse_address(folder, "source", DataError)
    assert isinstance(place, S3Address)
    names = [f"{folder}/{name}" for name in list_objects(place, "source")]
    pattern = re.compile(".*".join(map(re.escape, location.split("*"))))
    return [name for name in names if not star or pattern.fullmatch(name)]


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
