"""Registries in a folder, on an S3 server that honours conditional puts, and on one that ignores them."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from dr_irl.artifacts import Store
from dr_irl.promotion import shelf

ACCESS_KEY, SECRET = "planted-access-key", "planted-secret-0123456789"
CLIENTS: dict[str, dict[str, s3fs.S3FileSystem]] = {}


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client("s3", "us-east-1", endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b")
    client.create_bucket(Bucket="bucket")
    yield endpoint
    server.stop()


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "bucket").mkdir()
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    program = str(Path(sys.executable).with_name("rclone"))
    command = [program, "serve", "s3", "--config", "", "--auth-key", f"{ACCESS_KEY},{SECRET}", "--addr", address]
    with subprocess.Popen([*command, str(folder)], stderr=subprocess.DEVNULL) as server:
        _wait_for(address, server)
        yield f"http://{address}"
        server.terminate()


@pytest.fixture
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """An empty store: in a folder, unless a test names the server."""
    server = getattr(request, "param", "folder")
    monkeypatch.setenv("DR_IRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shelf, "_SETTLE_SECONDS", 0.1)
    if server == "folder":
        return Store(str(tmp_path / "store"))
    endpoint = request.getfixturevalue(server)
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    # A client takes half a second to make; s3fs keeps clients by their arguments, of which the endpoint is none.
    monkeypatch.setattr(s3fs.S3FileSystem, "_cache", CLIENTS.setdefault(endpoint, {}))
    return Store(f"s3://bucket/{tmp_path.parent.name}-{tmp_path.name}")


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    host, _, port = address.partition(":")
    for _ in range(200):
        with socket.socket() as client:
            if client.connect_ex((host, int(port))) == 0:
                return
        assert server.poll() is None, "rclone did not start"
        time.sleep(0.05)
    raise AssertionError(f"rclone does not listen on {address}")
