"""Manifests read back, and from elsewhere: older, newer, broken, hostile."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dr_irl.artifacts.manifest import FileEntry, Manifest, parse_manifest
from dr_irl.errors import CorruptArtifactError, StoreError

ENTRY = FileEntry(size=3, sha256="ab", rows=1, columns={"text": "string"})
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
PARTS = NAMES.filter(lambda name: not {"/", "\0"} & set(name) and name not in (".", ".."))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(NAMES, values, max_size=3),
)
ENTRIES = st.builds(
    FileEntry,
    size=st.integers(0, 2**50),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    rows=st.none() | st.integers(0, 2**40),
    columns=st.none() | st.dictionaries(NAMES, NAMES, max_size=3),
)
MANIFESTS = st.builds(
    Manifest,
    stage=st.lists(PARTS, min_size=1, max_size=2).map("/".join),
    fingerprint=PARTS,
    settings=st.dictionaries(NAMES, JSON, max_size=3),
    inputs=st.dictionaries(NAMES, NAMES, max_size=3),
    source=st.dictionaries(NAMES, NAMES, max_size=3),
    files=st.dictionaries(st.lists(PARTS, min_size=1, max_size=3).map("/".join), ENTRIES, max_size=3),
    wall_seconds=st.floats(0, 1e6),
)


def manifest(name: str = "rows.parquet") -> Manifest:
    return Manifest(
        stage="balance", fingerprint="f", settings={}, inputs={}, source={}, files={name: ENTRY}, wall_seconds=0.5
    )


def text(**changes: Any) -> bytes:
    return json.dumps(json.loads(manifest().model_dump_json()) | changes).encode()


@given(MANIFESTS)
def test_a_manifest_is_read_as_it_was_written(written: Manifest) -> None:
    assert parse_manifest(written.model_dump_json(indent=2).encode(), "uri") == written


@given(MANIFESTS, st.data())
def test_a_manifest_that_was_cut_short_is_damage(written: Manifest, data: st.DataObject) -> None:
    content = written.model_dump_json().encode()
    with pytest.raises(CorruptArtifactError):
        parse_manifest(content[: data.draw(st.integers(0, len(content) - 1))], "uri")


def test_the_columns_of_a_table_keep_their_order() -> None:
    columns = {"z": "string", "a": "int64"}
    entry = FileEntry(size=1, sha256="ab", rows=0, columns=columns)
    assert list((FileEntry.model_validate_json(entry.model_dump_json()).columns or {}).items()) == [*columns.items()]


def test_a_manifest_of_version_1_is_read() -> None:
    entry = {"size": 3, "sha256": "ab", "rows": 2}  # no columns
    read = parse_manifest(text(schema_version=1, files={"rows.parquet": entry}), "uri")
    assert read.files["rows.parquet"] == FileEntry(size=3, sha256="ab", rows=2)


def test_a_manifest_says_which_libraries_made_the_artifact() -> None:
    assert {"torch", "transformers", "peft"} <= manifest().libraries.keys()


def test_a_newer_version_is_told_apart_from_damage_even_with_other_fields() -> None:
    with pytest.raises(StoreError, match="manifest version 3, .*reads up to 2; upgrade"):
        parse_manifest(text(schema_version=3, colour="blue"), "uri")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"{}", text(files=3), text(colour="blue")])
def test_what_does_not_parse_is_damage(content: bytes) -> None:
    with pytest.raises(CorruptArtifactError, match=r"uri: its manifest.json does not parse"):
        parse_manifest(content, "uri")


@pytest.mark.parametrize("name", ["../stolen", "/etc/hostname", "a/../../b", "a//b", ""])
def test_a_file_outside_the_artifact_is_damage(name: str) -> None:
    with pytest.raises(CorruptArtifactError, match="outside the artifact"):
        parse_manifest(manifest(name).model_dump_json().encode(), "uri")


@pytest.mark.parametrize("seen", [0, 3, 2.5, "3.1", True, None, [3]])
def test_what_another_version_wrote_is_told_and_no_damage(seen: Any) -> None:
    """Damage would be moved aside, and built anew in its place."""
    with pytest.raises(StoreError, match=r"uri: manifest version .*, and this dr-irl reads up to 2; upgrade dr-irl"):
        parse_manifest(text(schema_version=seen, colour="blue"), "uri")
