"""Opening a store: new, ours, older, newer, or somebody else's."""

from pathlib import Path

import pytest

from dr_irl.artifacts import Store
from dr_irl.errors import StoreError


def test_a_new_store_is_marked(store: Store) -> None:
    assert store.backend.read(".dr-irl-store") == b'{"format": 1}'


def test_opening_again_leaves_the_marker_as_it_is(store: Store) -> None:
    before = store.backend.files("")
    Store(store.uri)
    assert store.backend.files("") == before


def test_a_place_that_something_else_uses_is_refused(store: Store) -> None:
    store.backend.delete([".dr-irl-store"])
    store.backend.write("holiday/photo.jpg", b"")
    with pytest.raises(StoreError, match=r"in use by something else.*holds 'holiday'; name an empty or new"):
        Store(store.uri)


def test_a_refused_place_is_left_as_it_is(store: Store) -> None:
    store.backend.delete([".dr-irl-store"])
    store.backend.write("photo.jpg", b"")
    with pytest.raises(StoreError):
        Store(store.uri)
    assert set(store.backend.files("")) == {"photo.jpg"}


def test_a_store_from_before_there_were_markers_is_taken_over(store: Store) -> None:
    store.write_text("runs/a.json", "{}")
    store.backend.delete([".dr-irl-store"])
    assert Store(store.uri).backend.read(".dr-irl-store") == b'{"format": 1}'


def test_other_files_beside_a_marker_do_no_harm(store: Store) -> None:
    store.backend.write("notes.txt", b"")
    assert Store(store.uri).uri == store.uri


def test_the_marker_of_older_versions_is_accepted(store: Store) -> None:
    store.backend.write(".dr-irl-store", b"1\n")
    assert Store(store.uri).uri == store.uri


def test_a_newer_format_is_refused(store: Store) -> None:
    store.backend.write(".dr-irl-store", b'{"format": 2, "colour": "blue"}')
    with pytest.raises(StoreError, match="format 2, and this dr-irl reads up to 1; upgrade dr-irl"):
        Store(store.uri)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[1]", b'"one"'])
def test_a_marker_that_says_nothing_is_told(store: Store, content: bytes) -> None:
    store.backend.write(".dr-irl-store", content)
    with pytest.raises(StoreError, match=r".dr-irl-store says b"):
        Store(store.uri)


def test_a_fresh_volume_is_empty(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert Store(str(tmp_path)).refs() == []


def test_reading_a_folder_that_does_not_exist_makes_none(tmp_path: Path) -> None:
    assert Store(str(tmp_path / "none"), read_only=True).refs() == []
    assert not (tmp_path / "none").exists()


def test_a_probe_leaves_nothing_behind(store: Store) -> None:
    assert set(store.backend.files("")) == {".dr-irl-store"}


def test_a_marker_that_another_run_is_writing_is_nothing_foreign(tmp_path: Path) -> None:
    (tmp_path / f"..dr-irl-store.{'0' * 32}").write_text("{")
    assert Store(str(tmp_path)).refs() == []
