"""Stores, opened once per process."""

import functools

from dr_irl.artifacts.store import Store
from dr_irl.errors import UserError


@functools.cache
def open_store(uri: str) -> Store:
    """Open a store for a run: what it has verified need not be hashed again."""
    return Store(uri)


def look_into(uri: str) -> Store:
    """Open a store to read what it holds; nothing is written, not even a folder whose name was mistyped.

    Raises:
        UserError: there is no store.
    """
    store = Store(uri, read_only=True)
    if not store.backend.names():
        raise UserError(f"there is no store at {store.uri!r}; dr-irl run makes one, --store names another")
    return store
