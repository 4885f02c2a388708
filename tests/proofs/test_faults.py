"""A store to which things happen: no room at a write, kills, a builder that is stopped, two machines."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import fault_proxy
import pytest
import s3fs
from services import SECRETS, s3_server

from dr_irl.artifacts import Store
from dr_irl.artifacts.store import Identity
from dr_irl.artifacts.upkeep import verify
from dr_irl.errors import StoreError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WORK = Path(__file__).with_name("store_work.py")
ATTEMPTS = 150


@pytest.mark.parametrize("how", ["full", "killed"])
def test_nothing_is_lost_or_damaged(how: str, tmp_path: Path, count: Callable[..., None]) -> None:
    done = subprocess.run(
        [sys.executable, str(WORK), str(tmp_path / "store"), how, str(ATTEMPTS)],
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    proof = {"full": "no room at a write", "killed": "kills"}[how]
    count(proof, attempts=ATTEMPTS, wrong=len(told["wrong"]), **told["ends"])
    assert (told["wrong"], told["ends"].get("broken", 0)) == ([], 0), done.stderr
    assert told["ends"][{"full": "refused", "killed": "killed"}[how]] > ATTEMPTS / 2


BUILDER = """
import socket, sys
socket.gethostname = lambda: sys.argv[2]
from dr_irl.artifacts import Store
from dr_irl.artifacts.store import Identity

store = Store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    ref = store.ref("grpo", f"{number}")
    with store.lease(ref, ttl_seconds=float(sys.argv[4])):
        if not store.has(ref):
            with store.build(Identity("grpo", f"{number}", {}, {}, {})) as folder:
                (folder / "weights").write_text(f"{number}" * 1000)
                print(f"building {number}", flush=True)
                sys.stdin.readline()
            print(f"built {number}", flush=True)
"""


def builder(uri: str, host: str, artifacts: int, ttl: float, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILDER, uri, host, str(artifacts), str(ttl)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a store on S3, and the environment that reaches it."""
    monkeypatch.setattr(s3fs.S3FileSystem, "_cache", {})  # of clients, which do not remember for which endpoint
    with s3_server("bucket") as url:
        yield (
            f"s3://bucket/{tmp_path.name}",
            {
                "AWS_ENDPOINT_URL": url,
                "AWS_ACCESS_KEY_ID": SECRETS["S3_ACCESS_KEY"],
                "AWS_SECRET_ACCESS_KEY": SECRETS["S3_SECRET_KEY"],
                "AWS_DEFAULT_REGION": "us-east-1",
                "DR_IRL_CACHE": str(tmp_path / "cache"),
                "NO_PROXY": "127.0.0.1",
            },
        )


def test_a_builder_stopped_beyond_its_lease_changes_nothing(tmp_path: Path, count: Callable[..., None]) -> None:
    uri = str(tmp_path / "store")
    stopped, other = (builder(uri, "here", 1, 1.0, {}) for _ in range(2))
    assert stopped.stdin and stopped.stdout and other.stdin and other.stdout
    stopped.stdin.write("\n")
    stopped.stdin.flush()
    assert stopped.stdout.readline() == "building 0\n"
    stopped.send_signal(signal.SIGSTOP)
    said, _ = other.communicate("\n\n", timeout=60)
    written = {path: path.stat().st_mtime_ns for path in Path(uri).glob("objects/**/*")}
    stopped.send_signal(signal.SIGCONT)
    stopped.communicate("\n", timeout=60)
    assert (said, other.returncode, stopped.returncode) == ("building 0\nbuilt 0\n", 0, 0)
    assert {path: path.stat().st_mtime_ns for path in Path(uri).glob("objects/**/*")} == written
    assert [problem for _, problem in verify(Store(uri)) if problem] == []
    assert (list(Store(uri).backend.files("leases")), list(Path(uri, "staging").iterdir())) == ([], [])
    count("builders stopped beyond their lease", stopped=1, wrong=0)


def test_two_machines_on_one_prefix_build_everything_once(
    bucket: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, count: Callable[..., None]
) -> None:
    uri, environment = bucket
    artifacts = 30
    machines = [builder(uri, host, artifacts, 60.0, environment) for host in ("one", "two")]
    for machine in machines:
        assert machine.stdin is not None
        machine.stdin.write("\n" * (artifacts + 1))
        machine.stdin.flush()
    said = [machine.communicate(timeout=300)[0] for machine in machines]
    built = sorted(line for lines in said for line in lines.splitlines() if line.startswith("built"))
    assert [machine.returncode for machine in machines] == [0, 0]
    assert built == sorted(f"built {number}" for number in range(artifacts))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = Store(uri)
    assert ([problem for _, problem in verify(store) if problem], len(store.refs())) == ([], artifacts)
    assert store.backend.files("leases") == {}
    count("two machines on one prefix", artifacts=artifacts, built_twice=0, wrong=0)


def test_a_store_that_becomes_read_only_at_any_request_is_told_and_whole(
    bucket: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, count: Callable[..., None]
) -> None:
    uri, environment = bucket
    with fault_proxy.running(environment["AWS_ENDPOINT_URL"]) as proxy:
        for name, value in {**environment, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        store, told = Store(uri), 0

        def commit(number: int) -> None:
            with (
                store.lease(ref := store.ref("grpo", f"{number}")),
                store.build(Identity("grpo", f"{number}", {}, {}, {})) as folder,
            ):
                for name in ("a", "b", "c"):
                    (folder / name).write_bytes(os.urandom(1000))
            store.checkpoint(ref).write(b"state")

        def only(writes: int) -> fault_proxy.Plan:
            left = iter(range(writes))
            denied = fault_proxy.Refusal(403, "AccessDenied")
            return lambda method, path: denied if method not in ("GET", "HEAD") and next(left, None) is None else None

        for allowed in range(12):
            proxy.plan = only(allowed)
            try:
                commit(allowed)
            except StoreError as error:
                told += 1
                assert "AccessDenied" in str(error) or "denied" in str(error) or "permission" in str(error).lower()
            proxy.plan = lambda method, path: None
            assert [problem for _, problem in verify(store) if problem] == []
            store.backend.delete_tree("leases")
            commit(allowed + 100)
        assert told >= 6
    count("a store that becomes read-only", requests=12, told=told, wrong=0)
