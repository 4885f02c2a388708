"""One store interface over a folder and over S3 (a real server: moto over HTTP)."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from dr_irl.artifacts import Store, fingerprint_of
from dr_irl.artifacts.store import Identity
from dr_irl.errors import CorruptArtifactError, StoreError
from dr_irl.records import Completion

ROWS = [Completion("p", 0, "hello", 2, False)]
SECRET = "planted-secret-0123456789"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_uri(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("DR_IRL_CACHE", str(tmp_path / "cache"))
    s3fs.S3FileSystem.clear_instance_cache()
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket="bucket")
    return f"s3://bucket/{tmp_path.name}"


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("s3_uri"))


def identity(stage: str = "balance", **settings: object) -> Identity:
    return Identity(stage, fingerprint_of(stage, settings, {}, ["dr_irl.seeding"]), settings, {}, {})


def commit(store: Store, made: Identity) -> None:
    with store.build(made) as folder:
        Completion.write(ROWS, folder / "rows.parquet")
        (folder / "adapter").mkdir()
        (folder / "adapter" / "config.json").write_text("{}")


def test_what_was_committed_is_fetched(store: Store) -> None:
    commit(store, identity())
    ref = store.ref("balance", identity().fingerprint)
    assert store.has(ref)
    folder = store.fetch(ref)
    assert Completion.read(folder / "rows.parquet") == ROWS
    assert (folder / "adapter" / "config.json").read_text() == "{}"
    assert store.manifest(ref).files["rows.parquet"].rows == 1


def test_a_build_that_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError, match="no luck"), store.build(identity()) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError("no luck")
    assert not store.has(store.ref("balance", identity().fingerprint))
    assert store.list_keys("objects") == []


def test_a_damaged_artifact_is_moved_aside_and_absent(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    commit(store, identity())
    ref = store.ref("balance", identity().fingerprint)
    path = f"{store._root}/objects/balance/{ref.fingerprint}/rows.parquet"
    store._fs.pipe_file(path, b"\0" * store._fs.size(path))
    store._fs.invalidate_cache()
    fresh = Store(store.uri)
    assert not fresh.has(ref)
    assert "rows.parquet" in caplog.text
    assert fresh._fs.find(f"{fresh._root}/damaged/balance") != []


def test_a_missing_file_is_damage(store: Store) -> None:
    commit(store, identity())
    ref = store.ref("balance", identity().fingerprint)
    store._fs.rm(f"{store._root}/objects/balance/{ref.fingerprint}/rows.parquet")
    store._fs.invalidate_cache()
    with pytest.raises((CorruptArtifactError, FileNotFoundError), match="rows.parquet"):
        Store(store.uri).fetch(ref)


def test_a_manifest_of_a_newer_version_is_refused(store: Store) -> None:
    commit(store, identity())
    ref = store.ref("balance", identity().fingerprint)
    path = f"{store._root}/objects/balance/{ref.fingerprint}/manifest.json"
    store._fs.pipe_file(path, store._fs.cat_file(path).replace(b'"schema_version": 1', b'"schema_version": 99'))
    store._fs.invalidate_cache()
    with pytest.raises(StoreError, match="version 99.*upgrade"):
        Store(store.uri).manifest(ref)


def test_run_records_are_listed_and_read(store: Store) -> None:
    store.write_text("runs/b.json", "{}")
    store.write_text("runs/a.json", '{"x": 1}')
    assert store.list_keys("runs") == ["runs/a.json", "runs/b.json"]
    assert store.read_text("runs/a.json") == '{"x": 1}'


def test_a_second_commit_of_the_same_artifact_keeps_the_first(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    commit(store, identity())
    created = store.manifest(store.ref("balance", identity().fingerprint)).created
    commit(store, identity())
    assert store.manifest(store.ref("balance", identity().fingerprint)).created == created


def test_a_store_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.*permissions"):
        Store(str(tmp_path / "file" / "store"))


def test_a_missing_bucket_is_named(s3_uri: str) -> None:
    with pytest.raises(StoreError, match="no-such-bucket") as caught:
        Store("s3://no-such-bucket/prefix")
    assert SECRET not in str(caught.value)


def test_other_protocols_are_refused() -> None:
    with pytest.raises(StoreError, match="gs://bucket.*s3://bucket/prefix"):
        Store("gs://bucket/prefix")
