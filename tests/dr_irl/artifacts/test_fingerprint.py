"""What changes an artifact's identity, and what does not."""

import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.artifacts import fingerprint
from dr_irl.artifacts.fingerprint import file_sha256, fingerprint_of, source_hash

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
# Integers and text only: 1, 1.0 and True are equal in Python but are different settings.
VALUES = st.recursive(
    st.integers() | NAMES | st.none(), lambda v: st.lists(v, max_size=3) | st.dictionaries(NAMES, v, max_size=3)
)
SETTINGS = st.dictionaries(NAMES, VALUES, max_size=4)
INPUTS = st.dictionaries(NAMES, NAMES, max_size=4)


def of(settings: dict[str, Any], inputs: dict[str, str] | None = None, stage: str = "balance") -> str:
    return fingerprint_of(stage, settings, inputs or {}, [])


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


def test_a_number_is_not_its_text() -> None:
    assert of({"a": 1}) != of({"a": "1"})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        of({"scaling": {"tau": value}})


def test_the_order_of_modules_does_not_matter() -> None:
    modules = ["dr_irl.seeding", "dr_irl.categories"]
    assert fingerprint_of("s", {}, {}, modules) == fingerprint_of("s", {}, {}, modules[::-1])


def test_a_fingerprint_is_32_hex_digits() -> None:
    assert (len(of({})), int(of({}), 16) > 0) == (32, True)


def test_the_hash_of_a_file_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert file_sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def hash_of_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Hash module `throwaway.top` of a package on disk, some of whose files are as given."""
    files = {
        "__init__.py": "",
        "top.py": "from throwaway.middle import half\nimport json\n\ndef top():\n    return half()\n",
        "middle.py": "def half():\n    from throwaway import deep\n    return deep.VALUE\n",
        "deep.py": "VALUE = 1\n",
        "apart.py": "OTHER = 1\n",
    }
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fingerprint, "_PACKAGE", "throwaway")
    (tmp_path / "throwaway").mkdir()

    def hash_with(**changes: str) -> str:
        for name, text in (files | {f"{module}.py": text for module, text in changes.items()}).items():
            (tmp_path / "throwaway" / name).write_text(text)
        for name in [module for module in sys.modules if module.split(".")[0] == "throwaway"]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        source_hash.cache_clear()
        fingerprint._tree.cache_clear()
        return source_hash("throwaway.top")

    return hash_with


def test_comments_and_layout_do_not_count(hash_of_top: Callable[..., str]) -> None:
    assert hash_of_top(deep="# why it is one\n\n\nVALUE   =  (1)\n") == hash_of_top()


def test_a_changed_module_counts(hash_of_top: Callable[..., str]) -> None:
    changed = "from throwaway.middle import half\nimport json\n\ndef top():\n    return -half()\n"
    assert hash_of_top(top=changed) != hash_of_top()


def test_a_changed_module_that_is_reached_by_import_counts(hash_of_top: Callable[..., str]) -> None:
    # `deep` is two imports away, and imported inside a function
    assert hash_of_top(deep="VALUE = 2\n") != hash_of_top()


def test_a_changed_module_that_is_not_reached_does_not_count(hash_of_top: Callable[..., str]) -> None:
    assert hash_of_top(apart="OTHER = 2\n") == hash_of_top()


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="dr_irl.nowhere"):
        source_hash("dr_irl.nowhere")
