"""Stores in a folder, on moto and on rclone: real servers over HTTP, one of each per session."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import fault_proxy
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.store import Identity

ACCESS_KEY, SECRET = "planted-access-key", "planted-secret-0123456789"
MADE = Identity("reward/insult", "f00d", {"epochs": 2}, {"balance": "beef"}, {"dr_irl.seeding": "cafe"})

CLIENTS: dict[str, dict[str, s3fs.S3FileSystem]] = {}
"""The clients of each endpoint."""

UseEndpoint = Callable[[str], None]


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """A server that honours conditional puts and checks no credentials."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
    ).create_bucket(Bucket="bucket")
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that checks signatures and ignores conditions on puts."""
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "bucket").mkdir()
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = str(Path(sys.executable).with_name("rclone"))
    command = [program, "serve", "s3", "--config", "", "--auth-key", f"{ACCESS_KEY},{SECRET}", "--addr", address]
    server = subprocess.Popen([*command, str(folder)], stderr=subprocess.DEVNULL)
    _wait_for(address, server)
    yield f"http://{address}"
    server.terminate()
    server.wait(timeout=30)


@pytest.fixture
def use_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> UseEndpoint:
    """Point this process, and those it starts, at an S3 server."""

    def use(url: str) -> None:
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "DR_IRL_CACHE": str(tmp_path / "cache"),
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        # A client takes half a second to make; s3fs keeps clients by their arguments, of which the endpoint is none.
        monkeypatch.setattr(s3fs.S3FileSystem, "_cache", CLIENTS.setdefault(url, {}))

    return use


@pytest.fixture
def moto_uri(moto_server: str, use_endpoint: UseEndpoint, tmp_path: Path) -> str:
    use_endpoint(moto_server)
    return f"s3://bucket/{tmp_path.parent.name}-{tmp_path.name}"


@pytest.fixture
def rclone_uri(rclone_server: str, use_endpoint: UseEndpoint, tmp_path: Path) -> str:
    use_endpoint(rclone_server)
    return f"s3://bucket/{tmp_path.parent.name}-{tmp_path.name}"


@pytest.fixture
def folder_uri(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@pytest.fixture(params=["folder", "moto", "rclone"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty store, at each place in turn."""
    return Store(request.getfixturevalue(f"{request.param}_uri"))


@pytest.fixture
def ref(store: Store) -> ArtifactRef:
    """A committed artifact of two files of ten bytes."""
    with store.build(MADE) as folder:
        write_files(folder)
    return store.ref(MADE.stage, MADE.fingerprint)


@pytest.fixture
def made() -> Identity:
    """What the artifact of `ref` is made from."""
    return MADE


@pytest.fixture(scope="session")
def running_proxy(moto_server: str) -> Iterator[Any]:
    with fault_proxy.running(moto_server) as proxy:
        yield proxy


@pytest.fixture
def proxy(running_proxy: Any, use_endpoint: UseEndpoint) -> Any:
    """A proxy in front of moto that passes everything on, until a test changes its plan."""
    running_proxy.plan = lambda method, path: None
    running_proxy.done.clear()
    use_endpoint(running_proxy.url)
    return running_proxy


def write_files(folder: Path, text: str = "0123456789") -> None:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights").write_text(text)
    (folder / "losses").write_text(text)


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    host, _, port = address.partition(":")
    for _ in range(200):
        with socket.socket() as client:
            if client.connect_ex((host, int(port))) == 0:
                return
        assert server.poll() is None, "rclone did not start"
        time.sleep(0.05)
    raise AssertionError(f"rclone does not listen on {address}")
