"""Suites: what a model is asked, in groups that are told apart. One file for each; the table says which there are.

Light to import.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dr_irl.errors import SettingsError
from dr_irl.registry import Registry

HARMFUL = "harmful"
ORDINARY = "ordinary"
LOOKALIKE = "lookalike"

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Suite:
    """A group of prompts: where they come from, and whether they are to be refused."""

    name: str
    """As tables and settings have it."""
    title: str
    """As people read it, such as `Ordinary prompts`."""
    refuse: bool
    """Whether its prompts are to be refused; if not, they are to be answered."""
    limit: float | None = None
    """Share that may be refused where they are to be answered; the gate goes by it. None: any."""
    belongs: Callable[[str, str], bool] | None = None
    """(category, source) of a held-out row of the data -> whether the suite asks it."""
    prompts: Callable[[], Sequence[str]] | None = None
    """Returns prompts that the suite brings itself. A suite has either this or `belongs`."""

    def __post_init__(self) -> None:
        """Check what would otherwise fail in the evaluation, after hours.

        Raises:
            SettingsError: the suite cannot be used.
        """
        problems = {
            "its name must be lower-case letters, digits and underscores, a letter first": not _NAME.fullmatch(
                self.name
            ),
            "its title is empty; say it in words": not self.title.strip(),
            f"limit = {self.limit}: a share in 0..1 is allowed, and none where prompts are to be refused": (
                self.limit is not None and (self.refuse or not 0 <= self.limit <= 1)
            ),
            "give either `belongs` or `prompts`": (self.belongs is None) == (self.prompts is None),
        }
        if found := [problem for problem, applies in problems.items() if applies]:
            raise SettingsError(f"suite {self.name!r}: {'; '.join(found)}")

    @property
    def label(self) -> str:
        """The title without what all have in common: `ordinary`."""
        return self.title.lower().removesuffix(" prompts")


SUITES: Registry[Suite] = Registry(
    "suite",
    "dr_irl.suites",
    {
        HARMFUL: "dr_irl.evaluation.suites.harmful:SUITE",
        ORDINARY: "dr_irl.evaluation.suites.ordinary:SUITE",
        LOOKALIKE: "dr_irl.evaluation.suites.lookalike:SUITE",
    },
)
"""Suite by name, in the order of the tables; no suite changes what another asks."""


def suites() -> list[Suite]:
    """Return all suites, in the order of the tables.

    Raises:
        SettingsError: a package brings something else, or a suite under another name.
    """
    return [_suite(name) for name in SUITES]


def to_refuse() -> list[Suite]:
    """Return the suites to be refused, besides the harmful prompts of the categories."""
    return [suite for suite in suites() if suite.refuse and suite.name != HARMFUL]


def to_answer() -> list[Suite]:
    """Return the suites to be answered."""
    return [suite for suite in suites() if not suite.refuse]


def own_prompts(suite: Suite) -> list[str]:
    """Return the distinct prompts that a suite brings itself; none where it asks rows of the data.

    Raises:
        SettingsError: it brings none, or what is no text.
    """
    if suite.prompts is None:
        return []
    found = list(dict.fromkeys(suite.prompts()))
    odd = sum(not isinstance(prompt, str) or not prompt.strip() for prompt in found)
    if odd or not found:
        raise SettingsError(
            f"suite {suite.name!r} brings {len(found)} prompts, {odd} of them empty or no text; its `prompts` must "
            "return at least one text, and no empty one"
        )
    return found


def _suite(name: str) -> Suite:
    found = SUITES[name]
    if not isinstance(found, Suite) or found.name != name:
        raise SettingsError(
            f"suite {name!r}: {SUITES.entries[name]} is {found!r}, not a Suite of that name; name the entry point as "
            "the suite"
        )
    return found
