"""The identifiers are written into tables and paths: they may not drift."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from outside_package import install

from dr_irl.categories import ALL_LABELS, BENIGN, HARM_CATEGORIES, HarmCategory, colours, harm_category
from dr_irl.errors import SettingsError

SCAMS = HarmCategory("scams", "Scams", "Help with deceiving people for money.", "#113355")


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


def test_every_category_has_a_title_and_a_definition_of_its_own() -> None:
    rows = [harm_category(name) for name in HARM_CATEGORIES]
    assert len({row.definition for row in rows}) == len({row.title for row in rows}) == 7


@pytest.mark.parametrize("page", [0, 1])
def test_every_label_has_a_colour_of_its_own(page: int) -> None:
    assert len({colours(label)[page] for label in ALL_LABELS}) == len(ALL_LABELS)


@pytest.mark.parametrize("name", ["Scams", "online scams", "2scams", "", "scams/big", "benign", "single", "all"])
def test_an_identifier_that_no_path_or_table_can_have_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be called so: allowed are lower-case letters.*benign, single, all"):
        replace(SCAMS, identifier=name)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("colour", "red", "'scams': colour 'red' is none; write it as #rrggbb"),
        ("dark_colour", "#12", "dark_colour '#12' is none"),
        ("title", " ", "its title is empty"),
        ("definition", "", "its definition is empty"),
    ],
)
def test_a_row_that_would_fail_in_the_report_is_refused(field: str, value: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        replace(SCAMS, **{field: value})


TEXT = """
from dr_irl.categories import HarmCategory
scams = HarmCategory("scams", "Scams", "Help with deceiving people for money.", "#113355")
other = HarmCategory("insult", "Insults", "Text that mocks.", "#113355")
"""
SHOW = "from dr_irl.categories import *; print(ALL_LABELS[-2:], harm_category('scams').title, colours('scams'))"


def seen_with(folder: Path, *entry_points: str, show: str = SHOW) -> str:
    """Say what a new process sees that has a package with such entry points."""
    points = {name: entry for name, _, entry in (point.partition("=") for point in entry_points)}
    install(folder, "more_harm", TEXT, {"dr_irl.categories": points})
    done = subprocess.run(
        [sys.executable, "-c", show],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"},
    )
    return done.stdout + done.stderr


def test_a_package_brings_a_category(tmp_path: Path) -> None:
    assert seen_with(tmp_path, "scams=more_harm:scams").strip() == (
        "('scams', 'benign') Scams ('#113355', 'color-mix(in srgb, #113355 60%, white)')"
    )


def test_a_package_is_not_imported_to_list_its_categories(tmp_path: Path) -> None:
    show = "import sys, dr_irl.categories as c; print(c.HARM_CATEGORIES[-1], 'more_harm' in sys.modules)"
    assert seen_with(tmp_path, "scams=more_harm:scams", show=show).strip() == "scams False"


def test_a_ninth_label_is_drawn_on_the_page_of_a_run(tmp_path: Path) -> None:
    show = (
        "import base64; from tasks.orchestration.curves import draw_curves; from dr_irl.categories import ALL_LABELS;"
        "said = draw_curves('alpha', {name: [(1, 1.0), (2, 2.0)] for name in ALL_LABELS});"
        "print(base64.b64decode(said.split(',')[1]).decode())"
    )
    picture = seen_with(tmp_path, "scams=more_harm:scams", show=show)
    assert 'stroke="#113355"' in picture and ">scams<" in picture


@pytest.mark.parametrize(
    ("point", "told"),
    [
        ("insult=more_harm:other", "'insult' is dr_irl.categories and also more_harm:other"),
        ("scams=more_harm:other", "'scams': more_harm:other is HarmCategory(identifier='insult'"),
        ("Scams=more_harm:scams", "'Scams' cannot be called so"),
        ("all=more_harm:scams", "'all' cannot be called so"),
    ],
)
def test_what_a_package_may_not_bring_is_told(tmp_path: Path, point: str, told: str) -> None:
    assert told in seen_with(tmp_path, point)
