"""Stores, opened once per process."""

import functools

from dr_irl.artifacts.store import Store


@functools.cache
def open_store(uri: str) -> Store:
    """Open a store: what it has verified need not be hashed again."""
    return Store(uri)
