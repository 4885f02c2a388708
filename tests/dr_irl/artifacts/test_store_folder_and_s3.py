"""What the store does in a folder and on two S3 servers: one that honours conditional puts, one that ignores them."""

from pathlib import Path

import pytest

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.store import Identity
from dr_irl.errors import CorruptArtifactError, StoreError
from dr_irl.records import Completion

ROWS = [Completion("p", 0, "hello", 2, False)]
TABLE = Identity("sampling", "7ab1e", {}, {}, {})
DAMAGE = pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("losses", b"01234", id="truncated"),
        pytest.param("losses", b"0123456780", id="altered"),
        pytest.param("losses", None, id="missing"),
        pytest.param("manifest.json", b"{", id="garbled manifest"),
    ],
)


def write_files(folder: Path, text: str = "0123456789") -> None:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights").write_text(text)
    (folder / "losses").write_text(text)


def overwrite(store: Store, ref: ArtifactRef, name: str, content: bytes | None) -> None:
    """Change one file of an artifact, or remove it, behind the store's back."""
    key = f"objects/{ref.stage}/{ref.fingerprint}/{name}"
    if content is None:
        store.backend.delete([key])
    else:
        store.backend.write(key, content)


def commit_table(store: Store) -> ArtifactRef:
    with store.build(TABLE) as folder:
        Completion.write(ROWS, folder / "rows.parquet")
    return store.ref(TABLE.stage, TABLE.fingerprint)


def test_a_table_is_fetched_as_it_was_written(store: Store) -> None:
    assert Completion.read(store.fetch(commit_table(store)) / "rows.parquet") == ROWS


def test_files_in_folders_are_fetched(store: Store, ref: ArtifactRef) -> None:
    assert (store.fetch(ref) / "adapter" / "weights").read_text() == "0123456789"


def test_the_manifest_describes_a_table(store: Store) -> None:
    entry = store.manifest(commit_table(store)).files["rows.parquet"]
    columns = {"prompt_id": "string", "index": "int64", "text": "string", "length_tokens": "int64", "truncated": "bool"}
    assert (entry.rows, entry.columns) == (1, columns)


def test_the_manifest_lists_every_file_with_its_size(store: Store, ref: ArtifactRef) -> None:
    sizes = {name: entry.size for name, entry in store.manifest(ref).files.items()}
    assert sizes == {"adapter/weights": 10, "losses": 10}


def test_what_was_committed_is_there(store: Store, ref: ArtifactRef) -> None:
    assert Store(store.uri).has(ref)


def test_a_build_that_fails_leaves_nothing(store: Store, made: Identity) -> None:
    with pytest.raises(RuntimeError, match="no luck"), store.build(made) as folder:
        write_files(folder)
        raise RuntimeError("no luck")
    assert not store.backend.files("objects") and not store.backend.files("staging")


@DAMAGE
def test_a_damaged_artifact_is_not_handed_out(store: Store, ref: ArtifactRef, name: str, content: bytes | None) -> None:
    overwrite(store, ref, name, content)
    with pytest.raises(CorruptArtifactError, match=rf"{name}.*moved aside.*running again rebuilds it"):
        Store(store.uri).fetch(ref)


@DAMAGE
def test_a_damaged_artifact_is_kept_aside(store: Store, ref: ArtifactRef, name: str, content: bytes | None) -> None:
    overwrite(store, ref, name, content)
    with pytest.raises(CorruptArtifactError):
        Store(store.uri).fetch(ref)
    assert [key for key in store.backend.files("damaged/reward/insult") if key.endswith("adapter/weights")]


@DAMAGE
def test_a_damaged_artifact_can_be_rebuilt(
    store: Store, ref: ArtifactRef, made: Identity, name: str, content: bytes | None
) -> None:
    overwrite(store, ref, name, content)
    with pytest.raises(CorruptArtifactError):
        Store(store.uri).fetch(ref)
    with store.build(made) as folder:
        write_files(folder, "rebuilt")
    assert (store.fetch(ref) / "losses").read_text() == "rebuilt"


def test_an_artifact_that_was_rebuilt_while_it_was_read_is_left_alone(
    store: Store, ref: ArtifactRef, made: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival = Store(store.uri)

    def overtaken(*_: object, **__: object) -> Path:
        with rival.build(made, replace=True) as folder:
            write_files(folder, "rebuilt")
        raise CorruptArtifactError("losses is missing")

    monkeypatch.setattr(store.backend, "bring", overtaken)
    with pytest.raises(CorruptArtifactError, match="another run replaced it meanwhile"):
        store.fetch(ref)
    assert rival.has(ref)


def test_a_truncated_artifact_is_absent(store: Store, ref: ArtifactRef) -> None:
    overwrite(store, ref, "losses", b"01234")
    assert not store.has(ref)


def test_damage_is_logged_by_name(store: Store, ref: ArtifactRef, caplog: pytest.LogCaptureFixture) -> None:
    overwrite(store, ref, "losses", b"01234")
    store.has(ref)
    assert "damaged artifact reward/insult f00d moved aside" in caplog.text
    assert "losses is 5 bytes long, not 10" in caplog.text


def test_files_without_a_manifest_are_no_artifact(store: Store, ref: ArtifactRef) -> None:
    overwrite(store, ref, "manifest.json", None)
    assert not store.has(ref)


def test_files_without_a_manifest_do_not_mix_with_a_rebuild(store: Store, ref: ArtifactRef, made: Identity) -> None:
    overwrite(store, ref, "manifest.json", None)
    with store.build(made) as folder:
        (folder / "other").write_text("rebuilt")
    assert set(store.backend.files(f"objects/{ref.stage}")) == {
        "objects/reward/insult/f00d/manifest.json",
        "objects/reward/insult/f00d/other",
    }


def test_a_second_commit_of_the_same_artifact_keeps_the_first(store: Store, ref: ArtifactRef, made: Identity) -> None:
    with store.build(made) as folder:
        write_files(folder, "second")
    assert (store.fetch(ref) / "losses").read_text() == "0123456789"


def test_a_replacing_build_takes_the_place_of_the_first(store: Store, ref: ArtifactRef, made: Identity) -> None:
    store.fetch(ref)
    with store.build(made, replace=True) as folder:
        (folder / "losses").write_text("second")
    assert (store.fetch(ref) / "losses").read_text() == "second"


def test_a_replacing_build_leaves_no_file_of_the_first(store: Store, ref: ArtifactRef, made: Identity) -> None:
    with store.build(made, replace=True) as folder:
        (folder / "losses").write_text("second")
    left = [*store.backend.files("objects"), *store.backend.files("staging"), *store.backend.files("damaged")]
    assert sorted(left) == ["objects/reward/insult/f00d/losses", "objects/reward/insult/f00d/manifest.json"]


def test_a_replacing_build_that_fails_keeps_the_first(store: Store, ref: ArtifactRef, made: Identity) -> None:
    with pytest.raises(RuntimeError), store.build(made, replace=True):
        raise RuntimeError("no luck")
    assert store.has(ref)


def test_a_manifest_of_a_newer_version_is_refused(store: Store, ref: ArtifactRef) -> None:
    key = "objects/reward/insult/f00d/manifest.json"
    store.backend.write(key, store.backend.read(key).replace(b'"schema_version": 2', b'"schema_version": 99'))
    with pytest.raises(StoreError, match="version 99.*upgrade"):
        Store(store.uri).manifest(ref)


def test_artifacts_are_listed_in_order(store: Store) -> None:
    stages = ["c", "a/z", "b", "a/y", "a"]
    for stage in stages:
        with store.build(Identity(stage, "f00d", {}, {}, {})):
            pass
    assert [ref.stage for ref in store.refs()] == ["a", "a/y", "a/z", "b", "c"]


def test_artifacts_of_one_stage_are_listed_with_its_variants(store: Store, ref: ArtifactRef) -> None:
    commit_table(store)
    assert store.refs("reward") == [ref]


def test_a_stage_that_only_begins_alike_is_not_listed(store: Store, ref: ArtifactRef) -> None:
    assert store.refs("rewar") == []


def test_a_file_called_like_a_manifest_is_no_artifact(store: Store, made: Identity) -> None:
    with store.build(made) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "manifest.json").write_text("{}")
    assert store.refs() == [store.ref(made.stage, made.fingerprint)]


def test_manifests_are_read_together(store: Store, ref: ArtifactRef) -> None:
    table = commit_table(store)
    assert store.manifests([ref, table]) == {ref: store.manifest(ref), table: store.manifest(table)}


def test_a_damaged_manifest_does_not_hide_the_others(store: Store, ref: ArtifactRef) -> None:
    table = commit_table(store)
    overwrite(store, ref, "manifest.json", b"{")
    read = store.manifests([ref, table])
    assert isinstance(read[ref], CorruptArtifactError) and read[table] == store.manifest(table)


def test_a_removed_artifact_leaves_nothing(store: Store, ref: ArtifactRef) -> None:
    store.remove(ref)
    assert not store.has(ref) and not store.backend.files("objects")


def test_run_records_are_listed_in_order(store: Store) -> None:
    for name in ("b", "a"):
        store.write_text(f"runs/{name}.json", "{}")
    store.write_text("runs/deeper/c.json", "{}")
    assert store.list_keys("runs") == ["runs/a.json", "runs/b.json"]


def test_a_run_record_is_read_as_it_was_written(store: Store) -> None:
    store.write_text("runs/a.json", '{"x": "é"}')
    assert store.read_text("runs/a.json") == '{"x": "é"}'


def test_a_text_that_does_not_exist_is_not_found(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.read_text("runs/none.json")


def test_a_store_that_is_only_read_is_not_written(store: Store, ref: ArtifactRef) -> None:
    before = store.backend.files("")
    Store(store.uri, read_only=True).fetch(ref)
    assert store.backend.files("") == before


def test_a_store_that_is_only_read_leaves_damage_where_it_is(store: Store, ref: ArtifactRef) -> None:
    overwrite(store, ref, "losses", b"01234")
    with pytest.raises(CorruptArtifactError, match="losses.*open for reading only"):
        Store(store.uri, read_only=True).fetch(ref)
    assert not store.backend.files("damaged")


def test_other_protocols_are_refused() -> None:
    with pytest.raises(StoreError, match="gs://bucket.*s3://bucket/prefix"):
        Store("gs://bucket/prefix")
