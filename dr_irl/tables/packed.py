"""Unpacks a file that was packed by itself, as `rows.jsonl.gz`; never to more than `reading.MOST_BYTES`."""

from pathlib import PurePosixPath

import pyarrow as pa

from dr_irl.errors import DataError
from dr_irl.tables import reading
from dr_irl.tables.formats import CODECS

_AT_ONCE = 1 << 20


def unpacked(name: str, content: bytes) -> bytes:
    """Return the contents of a file as they were before they were packed; those of other files are as they are.

    Raises:
        DataError: it is damaged, cut off, or unpacks to more than is allowed.
    """
    codec = CODECS.get(PurePosixPath(name).suffix.lower())
    if codec is None:
        return content
    parts: list[bytes] = []
    try:
        with pa.CompressedInputStream(pa.BufferReader(content), codec) as stream:
            while part := stream.read(_AT_ONCE):
                parts.append(part)
                if (len(parts) - 1) * _AT_ONCE >= reading.MOST_BYTES:
                    limit = f"{reading.MOST_BYTES >> 30} GiB"
                    raise DataError(f"source {name!r} unpacks to more than {limit}; allowed is less; split it")
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"source {name!r} cannot be unpacked: {error}; write it again, whole") from None
    return b"".join(parts)
