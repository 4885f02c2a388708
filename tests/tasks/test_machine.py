"""What a finished stage leaves behind."""

import gc
import weakref

from tasks.machine import give_back_memory


class Node:
    """Refers to itself, as models with adapters do."""

    def __init__(self) -> None:
        self.itself = self


def test_objects_in_reference_cycles_are_freed() -> None:
    gc.disable()
    try:
        gone = weakref.ref(Node())
        assert gone() is not None
        give_back_memory()
        assert gone() is None
    finally:
        gc.enable()
