"""Manifests from elsewhere: older, newer, broken, hostile."""

import json
from typing import Any

import pytest

from dr_irl.artifacts.manifest import FileEntry, Manifest, parse_manifest
from dr_irl.errors import CorruptArtifactError, StoreError

ENTRY = FileEntry(size=3, sha256="ab", rows=None)


def manifest(name: str = "rows.parquet") -> Manifest:
    return Manifest(
        stage="balance", fingerprint="f", settings={}, inputs={}, source={}, files={name: ENTRY}, wall_seconds=0.5
    )


def text(**changes: Any) -> bytes:
    return json.dumps(json.loads(manifest().model_dump_json()) | changes).encode()


def test_a_manifest_is_read_as_it_was_written() -> None:
    written = manifest()
    assert parse_manifest(written.model_dump_json().encode(), "uri") == written


def test_a_manifest_says_which_libraries_made_the_artifact() -> None:
    assert {"torch", "transformers", "peft"} <= manifest().libraries.keys()


def test_a_newer_version_is_told_apart_from_damage_even_with_other_fields() -> None:
    with pytest.raises(StoreError, match="manifest version 2, .*reads up to 1; upgrade"):
        parse_manifest(text(schema_version=2, colour="blue"), "uri")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"{}", text(files=3), text(colour="blue")])
def test_what_does_not_parse_is_damage(content: bytes) -> None:
    with pytest.raises(CorruptArtifactError, match=r"uri: its manifest.json does not parse"):
        parse_manifest(content, "uri")


@pytest.mark.parametrize("name", ["../stolen", "/etc/hostname", "a/../../b", "a//b", ""])
def test_a_file_outside_the_artifact_is_damage(name: str) -> None:
    with pytest.raises(CorruptArtifactError, match="outside the artifact"):
        parse_manifest(manifest(name).model_dump_json().encode(), "uri")
