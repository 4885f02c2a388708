"""What changes an artifact's identity, and what does not."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.artifacts.fingerprint import file_sha256, fingerprint_of

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
# Integers and text only: 1, 1.0 and True are equal in Python but are different settings.
VALUES = st.recursive(
    st.integers() | NAMES | st.none(), lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=3)
)
SETTINGS = st.dictionaries(NAMES, VALUES, max_size=4)
INPUTS = st.dictionaries(NAMES, NAMES, max_size=4)


def of(settings: dict[str, Any], inputs: dict[str, str] | None = None, stage: str = "balance") -> str:
    return fingerprint_of(stage, settings, inputs or {}, {})


@given(SETTINGS, INPUTS)
def test_the_order_of_keys_never_matters(settings: dict[str, Any], inputs: dict[str, str]) -> None:
    turned = dict(reversed(settings.items())), dict(reversed(inputs.items()))
    assert of(*turned) == of(settings, inputs)


@given(SETTINGS, SETTINGS)
def test_different_settings_have_different_fingerprints(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert (of(first) == of(second)) == (first == second)


@given(SETTINGS, NAMES, VALUES, VALUES)
def test_one_changed_setting_changes_the_fingerprint(
    settings: dict[str, Any], name: str, before: object, after: object
) -> None:
    changed = of(settings | {name: before}) != of(settings | {name: after})
    assert changed == (before != after)


@given(INPUTS, INPUTS)
def test_different_inputs_have_different_fingerprints(first: dict[str, str], second: dict[str, str]) -> None:
    assert (of({}, first) == of({}, second)) == (first == second)


@given(NAMES, NAMES)
def test_different_stages_have_different_fingerprints(first: str, second: str) -> None:
    assert (of({}, stage=first) == of({}, stage=second)) == (first == second)


def test_a_setting_is_no_input() -> None:
    assert of({"a": "b"}) != of({}, {"a": "b"})


def test_changed_code_changes_the_fingerprint() -> None:
    assert fingerprint_of("s", {}, {}, {"m": "1"}) != fingerprint_of("s", {}, {}, {"m": "2"})


def test_a_number_is_not_its_text() -> None:
    assert of({"a": 1}) != of({"a": "1"})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        of({"scaling": {"tau": value}})


def test_a_fingerprint_is_32_hex_digits() -> None:
    assert (len(of({})), int(of({}), 16) > 0) == (32, True)


def test_the_hash_of_a_file_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert file_sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
