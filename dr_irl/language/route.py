"""Which way a model's numbers are computed: the fastest that equals its own `forward`, on a ladder of three rungs."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from peft import PeftModel
from transformers import PreTrainedModel

from dr_irl.language.anatomy import base_of


class Scoring(StrEnum):
    """How final states of given answers come about."""

    SPLIT = "split"
    """Packed answers, a shared preamble; the frozen lower layers run once."""
    ROWS = "rows"
    """Every prompt with one answer is a padded row of the model's own decoder."""
    ALONE = "alone"
    """The same, one row at a time."""


class Decoding(StrEnum):
    """How answers are sampled."""

    SHARED = "shared"
    """What prompts share, and every prompt, is read once, and its cache repeated."""
    CACHED = "cached"
    """Prompt by prompt, on the cache that the model makes for itself."""
    WHOLE = "whole"
    """Prompt by prompt, everything anew for every token."""


@dataclass(frozen=True, slots=True)
class Route:
    """The rungs that a model is used on."""

    scoring: Scoring = Scoring.SPLIT
    decoding: Decoding = Decoding.SHARED
    reason: str = ""
    """Why they are not the fastest; empty where they are."""


def set_route(model: PreTrainedModel, route: Route) -> None:
    """Let everything that uses this model, or a copy of it, take `route`."""
    cast(Any, model)._dr_irl_route = route


def known_route(model: PreTrainedModel | PeftModel) -> Route | None:
    """Return the route that was set for a model; None where nobody has looked yet."""
    return cast(Any, getattr(base_of(model), "_dr_irl_route", None))
