"""Held-out prompts of the harm categories."""

from dr_irl.categories import BENIGN
from dr_irl.evaluation.suites import HARMFUL, Suite


def _belongs(category: str, source: str) -> bool:
    return category != BENIGN


SUITE = Suite(HARMFUL, "Harmful prompts", refuse=True, belongs=_belongs)
