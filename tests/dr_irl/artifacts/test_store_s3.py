"""What is particular to S3: downloads, concurrent builders, what other processes write."""

from pathlib import Path

import pytest

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.s3 import S3Backend
from dr_irl.artifacts.store import Identity


@pytest.fixture(params=["moto", "rclone"])
def store(request: pytest.FixtureRequest) -> Store:
    return Store(request.getfixturevalue(f"{request.param}_uri"))


@pytest.fixture
def downloads(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the objects that were downloaded."""
    keys: list[str] = []
    backend = store.backend
    assert isinstance(backend, S3Backend)
    download = backend.download

    def counted(key: str, path: Path) -> None:
        keys.append(key)
        download(key, path)

    monkeypatch.setattr(backend, "download", counted)
    return keys


def build(store: Store, made: Identity, text: str, *, replace: bool = False) -> None:
    with store.build(made, replace=replace) as folder:
        (folder / "losses").write_text(text)


def build_while_another_commits(store: Store, made: Identity, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    """Build "mine"; another run commits the same artifact after our files are up and before our manifest is."""
    rival = Store(store.uri)
    create = store.backend.create

    def late(key: str, content: bytes, *, settle_seconds: float = 0.0) -> bool:
        build(rival, made, other)
        return create(key, content, settle_seconds=settle_seconds)

    monkeypatch.setattr(store.backend, "create", late)
    build(store, made, "mine")


def test_asking_for_an_artifact_downloads_nothing(store: Store, ref: ArtifactRef, downloads: list[str]) -> None:
    assert (store.has(ref), downloads) == (True, [])


def test_what_was_downloaded_is_not_downloaded_again(store: Store, ref: ArtifactRef, downloads: list[str]) -> None:
    for _ in range(2):
        store.fetch(ref)
    assert len(downloads) == 2  # one for each file


def test_a_damaged_download_is_fetched_again(store: Store, ref: ArtifactRef) -> None:
    (store.fetch(ref) / "losses").write_text("0123456780")
    assert (Store(store.uri).fetch(ref) / "losses").read_text() == "0123456789"


def test_what_another_process_wrote_is_seen(store: Store) -> None:
    store.write_text("runs/a.json", "{}")
    store.list_keys("runs")
    Store(store.uri).write_text("runs/b.json", "{}")
    assert store.list_keys("runs") == ["runs/a.json", "runs/b.json"]


def test_conditional_puts_are_recognised_on_moto(moto_uri: str) -> None:
    backend = Store(moto_uri).backend
    assert isinstance(backend, S3Backend) and backend.conditional is True


def test_ignored_conditions_are_recognised_on_rclone(rclone_uri: str) -> None:
    backend = Store(rclone_uri).backend
    assert isinstance(backend, S3Backend) and backend.conditional is False


def test_of_two_creations_one_succeeds(store: Store) -> None:
    assert [store.backend.create("leases/a", content) for content in (b"first", b"second")] == [True, False]


def test_the_first_creation_stays(store: Store) -> None:
    for content in (b"first", b"second"):
        store.backend.create("leases/a", content)
    assert store.backend.read("leases/a") == b"first"


def test_a_manifest_that_is_there_first_is_kept(
    store: Store, made: Identity, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        build_while_another_commits(store, made, monkeypatch, other="mine")
    assert "committed by another run meanwhile, the same bytes; keeping that one" in caplog.text


def test_builders_of_other_bytes_leave_a_whole_artifact(
    store: Store, made: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_while_another_commits(store, made, monkeypatch, other="other")
    folder = Store(store.uri).fetch(store.ref(made.stage, made.fingerprint))
    assert (folder / "losses").read_text() == "mine"


def test_a_console_folder_is_no_file(store: Store) -> None:
    store.backend.write("runs/", b"")
    assert store.list_keys("runs") == []


def test_a_bucket_may_be_a_store_without_a_prefix(moto_server: str, moto_uri: str) -> None:
    import boto3

    boto3.client("s3").create_bucket(Bucket="whole")
    store = Store("s3://whole/")
    store.write_text("runs/a.json", "{}")
    assert set(Store("s3://whole").backend.files("")) == {".dr-irl-store", "runs/a.json"}
