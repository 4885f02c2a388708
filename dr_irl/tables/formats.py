"""Which files can be read, told from their names; what the others are is said in one sentence."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from dr_irl.errors import DataError

SUFFIXES = (".parquet", ".jsonl", ".csv")

_PACKED = "it is packed; unpack it first"
_WORKBOOK = "it is a workbook; save its sheet as CSV"
_ADVICE: Mapping[str, str] = {
    ".gz": _PACKED,
    ".zst": _PACKED,
    ".bz2": _PACKED,
    ".xz": _PACKED,
    ".zip": _PACKED,
    ".tar": _PACKED,
    ".json": "write one JSON object per line, as .jsonl",
    ".ndjson": "rename it to .jsonl",
    ".tsv": "rename it to .csv: tabs are understood",
    ".xlsx": _WORKBOOK,
    ".xls": _WORKBOOK,
    ".ods": _WORKBOOK,
    "": "name one file, with the suffix of its format",
}


def require_suffix(name: str) -> str:
    """Return the suffix of a file that can be read.

    Raises:
        DataError: its name tells that it is something else.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in SUFFIXES:
        return suffix
    advice = "name each file" if any(mark in name for mark in "*?[") else _ADVICE.get(suffix, "convert it")
    raise DataError(
        f"source {name!r}: its suffix is {suffix!r}; allowed are {', '.join(SUFFIXES)}, or the word 'seed'; {advice}"
    )
