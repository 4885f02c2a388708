"""What a stage finds in memory, and what it leaves there."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from tasks.orchestration.machine import give_back_memory, spare_what_stays


class Node:
    """Refers to itself, as models with adapters do."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def no_collection_in_between() -> Iterator[None]:
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


def test_objects_in_reference_cycles_are_freed(no_collection_in_between: None) -> None:
    gone = weakref.ref(Node())
    assert gone() is not None
    give_back_memory()
    assert gone() is None


def test_what_stays_is_not_walked_any_more_and_what_comes_after_it_is_freed(no_collection_in_between: None) -> None:
    loaded = Node()
    spare_what_stays()
    gone = weakref.ref(Node())
    assert not any(each is loaded for each in gc.get_objects())
    give_back_memory()
    assert gone() is None


def test_what_is_garbage_already_is_not_kept_for_good(no_collection_in_between: None) -> None:
    gone = weakref.ref(Node())
    spare_what_stays()
    assert gone() is None
