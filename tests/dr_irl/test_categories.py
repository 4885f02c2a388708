"""The identifiers are written into tables and paths: they may not drift."""

from dr_irl.categories import ALL_LABELS, BENIGN, HARM_CATEGORIES, Category


def test_the_seven_identifiers_are_those_of_the_method() -> None:
    assert HARM_CATEGORIES == (
        "insult",
        "unfairness_discrimination",
        "crimes_illegal_activities",
        "physical_harm",
        "mental_health",
        "privacy_property",
        "ethics_morality",
    )


def test_benign_is_a_label_but_no_harm_category() -> None:
    assert (ALL_LABELS[-1], BENIGN in HARM_CATEGORIES) == (BENIGN, False)


def test_every_category_has_a_definition_of_its_own() -> None:
    assert len({category.definition for category in Category}) == 7
