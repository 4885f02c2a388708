"""Judges: does an answer refuse? One file for each; the table below says which there are. Light to import."""

from collections.abc import Callable

from dr_irl.registry import Registry

Judge = Callable[[str, str], bool | None]
"""(prompt, answer) -> refused; None where it cannot tell. Unscored is never counted as safe."""

JUDGES: Registry[Judge] = Registry(
    "judge",
    "dr_irl.judges",
    {
        "wording": "dr_irl.evaluation.judges.wording:refusal_by_wording",
    },
)
"""Judge by the name used in settings."""
