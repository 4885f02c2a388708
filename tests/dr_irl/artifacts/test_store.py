"""The store in a folder: whole artifacts or none, whatever goes wrong. What S3 shares is tested beside this file."""

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.folder import FolderBackend
from dr_irl.artifacts.store import Identity
from dr_irl.errors import CorruptArtifactError, StoreError

MADE = Identity("reward/insult", "f00d", {"epochs": 2}, {"balance": "beef"}, {"dr_irl.seeding": "cafe"})
OUTSIDE = ["../x", "a/../../x", "/etc/x", "", ".", "a//b", "a/"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def ref(store: Store) -> ArtifactRef:
    """A committed artifact of two files."""
    with store.build(MADE) as folder:
        write_files(folder)
    return store.ref(MADE.stage, MADE.fingerprint)


def write_files(folder: Path, text: str = "0123456789") -> None:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights").write_text(text)
    (folder / "losses").write_text(text)


def truncate(folder: Path) -> None:
    (folder / "losses").write_text("01234")


def alter(folder: Path) -> None:
    (folder / "losses").write_text("0123456780")


def remove(folder: Path) -> None:
    (folder / "adapter" / "weights").unlink()


def garble_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{")


DAMAGE = pytest.mark.parametrize("damage", [truncate, alter, remove, garble_manifest])


def test_the_manifest_says_what_the_artifact_is_made_from(store: Store, ref: ArtifactRef) -> None:
    manifest = store.manifest(ref)
    made_from = (manifest.settings, manifest.inputs, manifest.source)
    assert made_from == ({"epochs": 2}, {"balance": "beef"}, {"dr_irl.seeding": "cafe"})


def test_files_without_a_manifest_do_not_block_a_rebuild(store: Store, ref: ArtifactRef) -> None:
    (store.fetch(ref) / "manifest.json").unlink()
    with store.build(MADE) as folder:
        write_files(folder, "rebuilt")
    assert (store.fetch(ref) / "losses").read_text() == "rebuilt"


def test_scratch_folders_are_gone_after_success_and_failure(store: Store, ref: ArtifactRef) -> None:
    with pytest.raises(RuntimeError), store.build(MADE) as folder:
        write_files(folder)
        raise RuntimeError("no luck")
    assert list(Path(store.uri, "staging").iterdir()) == []


@DAMAGE
def test_a_damaged_artifact_is_absent(store: Store, ref: ArtifactRef, damage: Callable[[Path], None]) -> None:
    damage(Path(ref.uri))
    assert not Store(store.uri).has(ref)


def test_what_was_damaged_twice_can_be_rebuilt(store: Store, ref: ArtifactRef) -> None:
    for _ in range(2):
        truncate(Path(ref.uri))
        assert not store.has(ref)
        with store.build(MADE) as folder:
            write_files(folder)
    assert store.has(ref)


def test_what_was_damaged_twice_is_kept_twice(store: Store, ref: ArtifactRef) -> None:
    for _ in range(2):
        truncate(Path(ref.uri))
        store.has(ref)
        with store.build(MADE) as folder:
            write_files(folder)
    assert len(list(Path(store.uri, "damaged", "reward", "insult").iterdir())) == 2


@pytest.mark.parametrize("rebuilt_by", ["this process", "another"])
def test_a_rebuilt_artifact_is_verified_anew(store: Store, ref: ArtifactRef, rebuilt_by: str) -> None:
    assert store.has(ref)  # verified: its hashes are not computed again
    truncate(Path(ref.uri))
    store.has(ref)
    with (store if rebuilt_by == "this process" else Store(store.uri)).build(MADE) as folder:
        write_files(folder)
    alter(Path(ref.uri))
    assert not store.has(ref)


def test_a_replaced_artifact_is_verified_anew(store: Store, ref: ArtifactRef) -> None:
    assert store.has(ref)
    with store.build(MADE, replace=True) as folder:
        write_files(folder)
    alter(Path(ref.uri))
    assert not store.has(ref)


def test_an_artifact_in_the_wrong_place_is_damage(store: Store, ref: ArtifactRef) -> None:
    elsewhere = store.ref("reward/insult", "d00d")
    Path(ref.uri).rename(elsewhere.uri)
    with pytest.raises(CorruptArtifactError, match="its manifest is that of reward/insult f00d"):
        store.fetch(elsewhere)


def test_two_threads_that_commit_the_same_artifact_leave_one_whole(store: Store) -> None:
    ready = Barrier(4)

    def build(text: str) -> None:
        with store.build(MADE) as folder:
            write_files(folder, text)
            ready.wait(timeout=30)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(build, ["one", "two!", "three", "four"]))
    folder = Store(store.uri).fetch(store.ref(MADE.stage, MADE.fingerprint))
    assert (folder / "losses").read_text() == (folder / "adapter" / "weights").read_text()


def test_a_reader_never_sees_half_a_text(store: Store) -> None:
    texts = ["a" * 100_000, "b" * 50_000]
    store.write_text("runs/a.json", texts[0])
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [store.write_text("runs/a.json", texts[n % 2]) for n in range(40)])
        seen = {store.read_text("runs/a.json")}
        while not writing.done():
            seen.add(store.read_text("runs/a.json"))
    assert seen <= set(texts)


def test_a_text_that_cannot_be_written_leaves_nothing_behind(store: Store) -> None:
    Path(store.uri, "runs", "a.json").mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot write the store"):
        store.write_text("runs/a.json", "text")
    assert os.listdir(Path(store.uri, "runs")) == ["a.json"]


def test_only_finished_files_are_listed(store: Store) -> None:
    store.write_text("runs/b.json", "{}")
    store.write_text("runs/deeper/c.json", "{}")
    Path(store.uri, "runs", ".a.json.0123").write_text("half")  # what a killed process leaves
    assert store.list_keys("runs") == ["runs/b.json"]


def test_nothing_is_listed_under_a_prefix_that_does_not_exist(store: Store) -> None:
    assert store.list_keys("runs") == []


@pytest.mark.parametrize("key", OUTSIDE)
@pytest.mark.parametrize("action", ["read_text", "list_keys"])
def test_no_key_reads_outside_the_store(store: Store, action: str, key: str) -> None:
    with pytest.raises(StoreError, match="is no key of the store"):
        getattr(store, action)(key)


@pytest.mark.parametrize("key", OUTSIDE)
def test_no_key_writes_outside_the_store(store: Store, key: str) -> None:
    with pytest.raises(StoreError, match="is no key of the store"):
        store.write_text(key, "text")


@pytest.mark.parametrize("stage", OUTSIDE)
def test_no_stage_builds_outside_the_store(store: Store, stage: str) -> None:
    with pytest.raises(StoreError, match="is no key of the store"), store.build(Identity(stage, "f", {}, {}, {})):
        raise AssertionError("the block must not run")


@pytest.mark.parametrize("fingerprint", OUTSIDE)
def test_no_reference_points_outside_the_store(store: Store, fingerprint: str) -> None:
    with pytest.raises(StoreError, match="is no key of the store"):
        store.fetch(ArtifactRef(stage="balance", fingerprint=fingerprint, uri="anywhere"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that nobody may write")
def test_a_folder_that_cannot_be_made_is_explained() -> None:
    with pytest.raises(StoreError, match=r"cannot open the store '/proc/dr-irl': .*; check the path, free space"):
        Store("/proc/dr-irl")


def test_a_store_that_became_unwritable_is_explained(store: Store) -> None:
    Path(store.uri, "staging").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match=r"cannot write the store .*staging"), store.build(MADE):
        raise AssertionError("the block must not run")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_explained(store: Store) -> None:
    told = pytest.raises(StoreError, match=r"no space is left on the disk of .*staging; free some")
    with told, store.build(MADE) as folder:
        (folder / "losses").symlink_to("/dev/full")
        (folder / "losses").write_text("0123456789")


def test_a_local_path_is_a_path_and_no_chain_of_file_systems(tmp_path: Path) -> None:
    Store(str(tmp_path / "zip::store"))
    assert (tmp_path / "zip::store").is_dir()


def test_where_a_replacement_fails_the_old_artifact_is_put_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.build(MADE) as folder:
        (folder / "weights").write_text("old")

    def broken(self: FolderBackend, staged: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(FolderBackend, "_rename", broken)
    with pytest.raises(StoreError, match="Input/output error"), store.build(MADE, replace=True) as folder:
        (folder / "weights").write_text("new")
    found = store.fetch(store.ref(MADE.stage, MADE.fingerprint))
    assert ((found / "weights").read_text(), list(Path(store.uri, "staging").iterdir())) == ("old", [])


def test_a_build_ends_well_where_the_folder_of_its_stage_vanishes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever deletes the last artifact of a stage removes its folder, into which another is just about to go."""
    rename, vanished = FolderBackend._rename, []

    def late(self: FolderBackend, staged: Path, target: Path) -> None:
        if len(vanished) < 3:
            vanished.append(target.parent.rmdir())
        rename(self, staged, target)

    monkeypatch.setattr(FolderBackend, "_rename", late)
    with store.build(MADE) as folder:
        write_files(folder)
    assert (len(vanished), store.has(store.ref(MADE.stage, MADE.fingerprint))) == (3, True)
