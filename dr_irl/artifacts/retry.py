"""How often and how patiently a transfer is repeated, and when two of them settle a question."""

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from dr_irl.errors import CorruptArtifactError, StoreUnreachableError

ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.2

T = TypeVar("T")
_JITTER = random.SystemRandom()  # of no consequence for results, and must not disturb a seeded generator


def pauses() -> Iterator[float | None]:
    """Give the seconds to wait after each attempt, doubling, with jitter; None after the last."""
    for attempt in range(ATTEMPTS - 1):
        yield FIRST_PAUSE_SECONDS * 2**attempt * _JITTER.uniform(0.5, 1.0)
    yield None


def until_sound(what: str, read: Callable[[], T | None], fault: Callable[[T], str | None]) -> T:
    """Read until the result is sound, or two readings agree on what is wrong with it.

    A body altered on its way differs from one reading to the next; damage where it lies is the same every time.

    Args:
        what: what is read, for the error.
        read: reads once; None where the body was cut short.
        fault: what is wrong with a reading, or None.

    Raises:
        CorruptArtifactError: two readings agree.
        StoreUnreachableError: every reading was cut short or differs from the others.
    """
    seen: list[T] = []
    for pause in pauses():
        got = read()
        reason = None if got is None else fault(got)
        if got is not None and reason is None:
            return got
        if got is not None and got in seen:
            raise CorruptArtifactError(reason)
        seen += [] if got is None else [got]
        if pause is not None:
            time.sleep(pause)
    raise StoreUnreachableError(
        f"{what} arrived cut short or altered in {ATTEMPTS} attempts, each time differently; the artifact was left as "
        "it is: check the network and any proxy on the way, then run again"
    )
