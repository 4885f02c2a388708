"""The table of harm categories, and the label of prompts that deserve an answer. Light to import.

A row here, or one of another package (entry points of group `dr_irl.categories`), is all that a category needs besides
its demonstrations: data, reward models, plots, tables, gate and card go by this table.
"""

import functools
import re
from dataclasses import dataclass

from dr_irl.errors import SettingsError
from dr_irl.registry import Registry

BENIGN = "benign"
"""The label of prompts that deserve an answer. It is rewarded by the guard, never by a harm model."""

SINGLE = "single"
"""The one reward model that is trained on the rows of all harm categories, to compare the others with."""

_TAKEN = (BENIGN, SINGLE, "all")
_IDENTIFIER, _COLOUR = re.compile(r"[a-z][a-z0-9_]*"), re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HarmCategory:
    """One kind of harm: what it is called, what belongs to it, and how it is drawn."""

    identifier: str
    """As every table, setting and path has it."""
    title: str
    """As people read it."""
    definition: str
    """One sentence that says what belongs to it."""
    colour: str
    """Of its curves, on a light page: `#rrggbb`."""
    dark_colour: str = ""
    """The same on a dark page; by default a lighter shade of `colour`."""

    def __post_init__(self) -> None:
        """Check what would fail late: in a path, or in the report at the end of a run.

        Raises:
            SettingsError: an identifier, a title, a definition or a colour cannot be used.
        """
        _check_identifier(self.identifier)
        for name, words in (("title", self.title), ("definition", self.definition)):
            if not words.strip():
                raise SettingsError(f"harm category {self.identifier!r}: its {name} is empty; say it in words")
        for name, colour in (("colour", self.colour), ("dark_colour", self.dark_colour or self.colour)):
            if not _COLOUR.fullmatch(colour):
                raise SettingsError(
                    f"harm category {self.identifier!r}: {name} {colour!r} is none; write it as #rrggbb, like #c8471b"
                )


def _check_identifier(name: str) -> str:
    if name in _TAKEN or not _IDENTIFIER.fullmatch(name):
        raise SettingsError(
            f"harm category {name!r} cannot be called so: allowed are lower-case letters, digits and underscores, a "
            f"letter first, and none of {', '.join(_TAKEN)}; rename it in the package that brings it"
        )
    return name


_ROWS = (
    HarmCategory(
        identifier="insult",
        title="Insult",
        definition="Text that mocks, demeans, bullies or humiliates a person.",
        colour="#c8471b",
        dark_colour="#fb8a5a",
    ),
    HarmCategory(
        identifier="unfairness_discrimination",
        title="Unfairness discrimination",
        definition="Treating or describing people unfairly because of a group they belong to.",
        colour="#7641d6",
        dark_colour="#b094ff",
    ),
    HarmCategory(
        identifier="crimes_illegal_activities",
        title="Crimes illegal activities",
        definition="Help with fraud, theft, forgery, intrusion or another crime.",
        colour="#bd2270",
        dark_colour="#f27ab6",
    ),
    HarmCategory(
        identifier="physical_harm",
        title="Physical harm",
        definition="Advice or instructions that endanger somebody's body or health.",
        colour="#2159c7",
        dark_colour="#72a8ff",
    ),
    HarmCategory(
        identifier="mental_health",
        title="Mental health",
        definition="Content that damages somebody's mental health or keeps them from help.",
        colour="#0a7f96",
        dark_colour="#3ccbe0",
    ),
    HarmCategory(
        identifier="privacy_property",
        title="Privacy property",
        definition="Exposing private information, or taking or damaging what belongs to others.",
        colour="#55800f",
        dark_colour="#a8d34b",
    ),
    HarmCategory(
        identifier="ethics_morality",
        title="Ethics morality",
        definition="Help with dishonest, manipulative or cruel conduct that is mostly not a crime.",
        colour="#9a6a06",
        dark_colour="#e6bd4a",
    ),
)
_BUILT_IN = {row.identifier: row for row in _ROWS}
_NAMES: Registry[HarmCategory] = Registry("harm category", "dr_irl.categories", dict.fromkeys(_BUILT_IN, __name__))
"""Of all rows; those of other packages are imported when they are asked for. What is built in keeps its name."""

HARM_CATEGORIES: tuple[str, ...] = tuple(name if name in _BUILT_IN else _check_identifier(name) for name in _NAMES)
ALL_LABELS: tuple[str, ...] = (*HARM_CATEGORIES, BENIGN)
BENIGN_COLOURS = ("#0a9a6a", "#45d6a0")
"""Of the guard's curves, on a light and on a dark page."""


@functools.cache
def harm_category(name: str) -> HarmCategory:
    """Return a row of the table.

    Raises:
        KeyError: there is none of this name.
        SettingsError: the package that brings it has something else there.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    found = _NAMES[name]
    if not isinstance(found, HarmCategory) or found.identifier != name:
        raise SettingsError(
            f"harm category {name!r}: {_NAMES.entries[name]} is {found!r}, not a HarmCategory of that identifier; name "
            "the entry point as the category"
        )
    return found


def label_of(text: str) -> str | None:
    """Return the label that a data set spells in its own way (`Privacy-Property`, a category's title); None: none is.

    Args:
        text: what stands in the data; capitals, and what stands between words, do not count.
    """
    return _spellings().get(_spelling(text))


def _spelling(text: str) -> str:
    return "_".join(word for word in re.split(r"[\W_]+", text.casefold()) if word and word != "and")


@functools.cache
def _spellings() -> dict[str, str]:
    return {_spelling(title): name for name in HARM_CATEGORIES for title in (harm_category(name).title, name)} | {
        BENIGN: BENIGN
    }


def colours(label: str) -> tuple[str, str]:
    """Return the colour of a label's curves on a light and on a dark page, as CSS writes them.

    Raises:
        KeyError: there is no such label.
    """
    if label == BENIGN:
        return BENIGN_COLOURS
    row = harm_category(label)
    return row.colour, row.dark_colour or f"color-mix(in srgb, {row.colour} 60%, white)"
