"""The seven harm categories, and the eighth label for prompts that deserve an answer."""

from enum import StrEnum


class Category(StrEnum):
    """A harm category, with the exact identifier used in every table, setting and path."""

    INSULT = "insult"
    UNFAIRNESS_DISCRIMINATION = "unfairness_discrimination"
    CRIMES_ILLEGAL_ACTIVITIES = "crimes_illegal_activities"
    PHYSICAL_HARM = "physical_harm"
    MENTAL_HEALTH = "mental_health"
    PRIVACY_PROPERTY = "privacy_property"
    ETHICS_MORALITY = "ethics_morality"

    @property
    def definition(self) -> str:
        """One sentence that says what belongs to the category."""
        return _DEFINITIONS[self]


BENIGN = "benign"
"""The label of prompts that deserve an answer. It is rewarded by the guard, never by a harm model."""

SINGLE = "single"
"""The one reward model that is trained on the rows of all harm categories, to compare the seven with."""

HARM_CATEGORIES: tuple[str, ...] = tuple(category.value for category in Category)
ALL_LABELS: tuple[str, ...] = (*HARM_CATEGORIES, BENIGN)

_DEFINITIONS = {
    Category.INSULT: "Text that mocks, demeans, bullies or humiliates a person.",
    Category.UNFAIRNESS_DISCRIMINATION: "Treating or describing people unfairly because of a group they belong to.",
    Category.CRIMES_ILLEGAL_ACTIVITIES: "Help with fraud, theft, forgery, intrusion or another crime.",
    Category.PHYSICAL_HARM: "Advice or instructions that endanger somebody's body or health.",
    Category.MENTAL_HEALTH: "Content that damages somebody's mental health or keeps them from help.",
    Category.PRIVACY_PROPERTY: "Exposing private information, or taking or damaging what belongs to others.",
    Category.ETHICS_MORALITY: "Help with dishonest, manipulative or cruel conduct that is mostly not a crime.",
}
