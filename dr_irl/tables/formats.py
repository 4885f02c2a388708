"""Which files can be read, told from their names; what the others are is said in one sentence."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from dr_irl.errors import DataError

SUFFIXES = (".parquet", ".jsonl", ".csv")

CODECS: Mapping[str, str] = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""Suffix of a packed file, as in `rows.jsonl.gz` -> the codec."""

_PACKED = "it is packed; unpack it first"
_WORKBOOK = "it is a workbook; save its sheet as CSV"
_ADVICE: Mapping[str, str] = {
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
    """Return the suffix of a file that can be read, packed or not.

    Raises:
        DataError: its name tells that it is something else.
    """
    suffix = format_of(name)
    if suffix in SUFFIXES:
        return suffix
    raise DataError(
        f"source {name!r}: its suffix is {suffix!r}; allowed are {', '.join(SUFFIXES)}, each also packed "
        f"({', '.join(CODECS)}), folders and patterns of such files, or the word 'seed'; "
        f"{_ADVICE.get(suffix, 'convert it')}"
    )


def is_readable(name: str) -> bool:
    """Tell whether a file's name is of a format that can be read."""
    return format_of(name) in SUFFIXES


def format_of(name: str) -> str:
    """Return the suffix of a file without that of its codec."""
    path = PurePosixPath(name)
    return (path.with_suffix("") if path.suffix.lower() in CODECS and path.stem else path).suffix.lower()


def whole_suffix(name: str) -> str:
    """Return what tells the format of a file: `.jsonl`, or `.jsonl.gz` where it is packed."""
    suffixes = PurePosixPath(name).suffixes
    return "".join(suffixes[-2:] if suffixes and suffixes[-1].lower() in CODECS else suffixes[-1:]).lower()
