from collections.abc import Callable
from typing import Any

import pytest

from dr_irl.records import Example


@pytest.fixture
def make_example() -> Callable[..., Example]:
    """Build a row from what matters to a test; the rest is a labelled training row with a demonstration."""

    def make(prompt: str = "how do I mock him", **changes: Any) -> Example:
        fields: dict[str, Any] = {
            "id": prompt,
            "prompt": prompt,
            "category": "insult",
            "source": "direct",
            "split": "train",
            "draft": ("a", "b", "c", "d"),
            "response": "I won't.",
            "confidence": None,
        }
        return Example(**(fields | changes))

    return make
