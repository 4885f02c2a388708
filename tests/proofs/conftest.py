"""Counts what the proofs did; with DR_IRL_RELIABILITY set to a file, it is written there as JSON."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

Count = Callable[..., None]


@pytest.fixture(scope="session")
def counted() -> Iterator[dict[str, Counter[str]]]:
    """Proof -> what was done and what came of it."""
    found: dict[str, Counter[str]] = {}
    yield found
    if path := os.environ.get("DR_IRL_RELIABILITY"):
        told = {proof: dict(counts) for proof, counts in sorted(found.items())}
        Path(path).write_text(json.dumps({"date": f"{datetime.now(UTC):%Y-%m-%d}", "proofs": told}, indent=2) + "\n")


@pytest.fixture
def count(counted: dict[str, Counter[str]]) -> Count:
    """Add to the counts of a proof: `count("disk full", points=1)`."""

    def add(proof: str, **numbers: int) -> None:
        counted.setdefault(proof, Counter()).update(numbers)

    return add
