"""What goes wrong with S3 only (a real server: moto over HTTP)."""

import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.store import Identity
from dr_irl.errors import CorruptArtifactError, StoreError

MADE = Identity("reward/insult", "f00d", {}, {}, {})
SECRET = "planted-secret-0123456789"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def endpoint(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "DR_IRL_CACHE": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    return server


@pytest.fixture
def store(endpoint: str, tmp_path: Path) -> Store:
    boto3.client("s3").create_bucket(Bucket="bucket")
    return Store(f"s3://bucket/{tmp_path.name}")


@pytest.fixture
def ref(store: Store) -> ArtifactRef:
    """A committed artifact of two files."""
    with store.build(MADE) as folder:
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights").write_text("0123456789")
        (folder / "losses").write_text("0123456789")
    return store.ref(MADE.stage, MADE.fingerprint)


def put(store: Store, ref: ArtifactRef, name: str, content: bytes | None) -> None:
    """Overwrite one object of an artifact, or remove it, behind the store's back."""
    client = boto3.client("s3")
    bucket, key = f"{ref.uri}/{name}".removeprefix("s3://").split("/", 1)
    if content is None:
        client.delete_object(Bucket=bucket, Key=key)
    else:
        client.put_object(Bucket=bucket, Key=key, Body=content)


DAMAGE = pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("losses", b"01234", id="truncated"),
        pytest.param("losses", b"0123456780", id="altered"),
        pytest.param("losses", None, id="missing"),
        pytest.param("manifest.json", b"{", id="garbled manifest"),
    ],
)


@DAMAGE
def test_a_damaged_artifact_is_not_handed_out(store: Store, ref: ArtifactRef, name: str, content: bytes | None) -> None:
    put(store, ref, name, content)
    with pytest.raises(CorruptArtifactError, match=name):
        store.fetch(ref)


@DAMAGE
def test_a_damaged_artifact_is_kept_aside(store: Store, ref: ArtifactRef, name: str, content: bytes | None) -> None:
    put(store, ref, name, content)
    store.has(ref)
    kept = [path for path in store._fs.find(f"{store._root}/damaged/reward/insult") if "adapter/weights" in path]
    assert len(kept) == 1


@DAMAGE
def test_a_damaged_artifact_can_be_rebuilt(store: Store, ref: ArtifactRef, name: str, content: bytes | None) -> None:
    put(store, ref, name, content)
    assert not store.has(ref)
    with store.build(MADE) as folder:
        (folder / "losses").write_text("rebuilt")
    assert (store.fetch(ref) / "losses").read_text() == "rebuilt"


def test_files_without_a_manifest_are_no_artifact(store: Store, ref: ArtifactRef) -> None:
    put(store, ref, "manifest.json", None)
    assert not store.has(ref)


def test_a_damaged_download_is_fetched_again(store: Store, ref: ArtifactRef) -> None:
    (store.fetch(ref) / "losses").write_text("0123456780")
    assert (Store(store.uri).fetch(ref) / "losses").read_text() == "0123456789"


def test_what_another_process_wrote_is_seen(store: Store) -> None:
    store.write_text("runs/a.json", "{}")
    store.list_keys("runs")
    prefix = store.uri.removeprefix("s3://bucket/")
    boto3.client("s3").put_object(Bucket="bucket", Key=f"{prefix}/runs/b.json", Body=b"{}")
    assert store.list_keys("runs") == ["runs/a.json", "runs/b.json"]


def test_a_missing_bucket_is_one_sentence(endpoint: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store("s3://no-such-bucket/prefix")
    assert str(caught.value) == "cannot open the store 's3://no-such-bucket/prefix': no such bucket; create it"


def test_an_endpoint_that_is_down_is_told_within_seconds(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(StoreError, match=rf"127.0.0.1:{port}.*check the path.*endpoint"):
        Store("s3://bucket/prefix")
    assert time.monotonic() - started < 10


def test_an_endpoint_that_never_answers_is_told(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dr_irl.artifacts.filesystem._PROBE_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{mute.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(StoreError, match="the endpoint gave no answer within 1 s"):
            Store("s3://bucket/prefix")
    assert time.monotonic() - started < 10


@pytest.fixture
def checks_credentials(endpoint: str) -> Iterator[None]:
    def allow(unchecked: str) -> None:
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", unchecked.encode(), headers)
        urllib.request.urlopen(request).close()

    allow("0")
    yield
    allow("inf")


def test_wrong_credentials_are_told_without_the_secret(store: Store, checks_credentials: None) -> None:
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match=r"Access Key Id.*does not exist.*AWS_\* variables") as caught:
        Store(store.uri)
    assert SECRET not in str(caught.value)


def test_absent_credentials_are_told(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(StoreError, match="Unable to locate credentials"):
        Store(store.uri)
