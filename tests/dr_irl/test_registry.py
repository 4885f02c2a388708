"""Names that stand for things, built in or brought by another package."""

import sys
from pathlib import Path

import pytest
from outside_package import install

from dr_irl.errors import SettingsError
from dr_irl.registry import Registry

GROUP = "dr_irl.tests"


def registry() -> Registry[object]:
    return Registry("colour", GROUP, {"black": "math:pi", "white": "math:e"})


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_name_stands_for_what_its_line_says() -> None:
    assert list(registry()) == ["black", "white"]
    assert registry()["white"] == pytest.approx(2.718, abs=1e-3)


def test_an_unknown_name_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="there is no colour 'blue'; there are black, white; other packages .*tests"):
        registry().check("blue")
    assert "blue" not in registry()


def test_a_package_brings_a_name_and_is_not_imported_to_list_it(outside: Path) -> None:
    install(outside, "paints", "raise RuntimeError('imported')", {GROUP: {"blue": "paints:blue"}})
    assert list(registry()) == ["black", "white", "blue"]
    assert registry().check("blue") == "blue"
    assert "paints" not in sys.modules


def test_what_a_package_brings_is_had_when_it_is_asked_for(outside: Path) -> None:
    install(outside, "paints_in_stock", "blue = 'sky'", {GROUP: {"blue": "paints_in_stock:blue"}})
    assert registry()["blue"] == "sky"


@pytest.mark.parametrize("name", ["blue", "black"])
def test_two_things_of_one_name_are_refused(outside: Path, name: str) -> None:
    install(outside, "first_paints", "", {GROUP: {name: "first_paints:one"}})
    install(outside, "second_paints", "", {GROUP: {name: "second_paints:two"}})
    with pytest.raises(SettingsError, match=f"colour '{name}' is .+ and also \\w+_paints:.*{GROUP}.*rename one"):
        list(registry())


@pytest.mark.parametrize("entry", ["no_such_module:x", "math:x"])
def test_what_is_not_where_its_line_says_is_told(entry: str) -> None:
    with pytest.raises(SettingsError, match=f"colour 'grey' is {entry}, which cannot be had"):
        Registry("colour", GROUP, {"grey": entry})["grey"]
