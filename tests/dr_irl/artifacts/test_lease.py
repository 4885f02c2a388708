"""Leases: who builds, who waits, and what becomes of a lease whose holder died."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from dr_irl.artifacts import ArtifactRef, Store, lease
from dr_irl.artifacts.lease import Holder
from dr_irl.errors import StoreError

NEVER = 3600.0
"""A lease that does not end within a test."""
BUILDER = """
import sys, time
from pathlib import Path
from dr_irl.artifacts import Store
from dr_irl.artifacts.store import Identity

uri, log, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
store = Store(uri)
ref = store.ref("reward/insult", "f00d")
print("ready", flush=True)
sys.stdin.readline()
with store.lease(ref, on_wait=lambda said: print(said, flush=True)):
    if not store.has(ref):
        with log.open("a") as lines:
            lines.write("built\\n")
        print("building", flush=True)
        with store.build(Identity("reward/insult", "f00d", {}, {}, {})) as folder:
            (folder / "weights").write_text("x")
            time.sleep(seconds)
"""


@pytest.fixture(autouse=True)
def quick_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less after a put to a server that ignores conditions: it is on this machine."""
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.2)


@pytest.fixture
def unbuilt(store: Store) -> ArtifactRef:
    return store.ref("reward/insult", "f00d")


def lease_files(store: Store) -> list[str]:
    return sorted(store.backend.files("leases"))


def write_lease(store: Store, generation: int, *, beat: int = 0, pid: int = 1, host: str = "elsewhere") -> None:
    holder = Holder(token="other", beat=beat, host=host, pid=pid)
    store.backend.write(f"leases/reward/insult/f00d/{generation:06d}.json", holder.model_dump_json().encode())


def test_a_free_lease_is_held_at_once(store: Store, unbuilt: ArtifactRef) -> None:
    with store.lease(unbuilt):
        assert lease_files(store) == ["leases/reward/insult/f00d/000001.json"]


def test_a_lease_says_who_holds_it(store: Store, unbuilt: ArtifactRef) -> None:
    with store.lease(unbuilt):
        said = json.loads(store.backend.read("leases/reward/insult/f00d/000001.json"))
    assert (said["host"], said["pid"], said["beat"]) == (socket.gethostname(), os.getpid(), 0)


def test_a_lease_is_given_back(store: Store, unbuilt: ArtifactRef) -> None:
    with store.lease(unbuilt):
        pass
    assert lease_files(store) == []


def test_a_lease_is_given_back_when_the_build_fails(store: Store, unbuilt: ArtifactRef) -> None:
    with pytest.raises(RuntimeError, match="no luck"), store.lease(unbuilt):
        raise RuntimeError("no luck")
    assert lease_files(store) == []


def test_two_artifacts_have_two_leases(store: Store, unbuilt: ArtifactRef) -> None:
    with store.lease(unbuilt), store.lease(store.ref("reward/hate", "f00d")):
        assert len(lease_files(store)) == 2


def test_a_waiter_is_told_once_who_builds(store: Store, unbuilt: ArtifactRef) -> None:
    said: list[str] = []
    write_lease(store, 1, pid=123)
    with store.lease(unbuilt, on_wait=said.append, ttl_seconds=0.5):
        pass
    assert said == ["reward/insult/f00d is being built by process 123 on elsewhere; waiting for it"]


def test_one_holds_the_lease_at_a_time(store: Store, unbuilt: ArtifactRef) -> None:
    holding: list[int] = []

    def hold(number: int) -> None:
        with store.lease(unbuilt, ttl_seconds=NEVER):
            holding.append(number)
            time.sleep(0.05)
            assert holding == [number], "two at once"
            holding.remove(number)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(hold, range(3)))


def test_a_lease_that_stopped_beating_is_taken_over(store: Store, unbuilt: ArtifactRef) -> None:
    write_lease(store, 7)
    with store.lease(unbuilt, ttl_seconds=0.5):
        assert lease_files(store)[-1].endswith("000008.json")


def test_a_lease_that_beats_is_waited_for(store: Store, unbuilt: ArtifactRef) -> None:
    write_lease(store, 1)
    acquired = Event()

    def wait() -> None:
        with store.lease(unbuilt, ttl_seconds=1.0):
            acquired.set()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        for beat in range(1, 14):
            time.sleep(0.2)
            write_lease(store, 1, beat=beat)
        assert not acquired.is_set()
        store.backend.delete(lease_files(store))
        waiting.result(timeout=30)


def test_the_holder_beats(store: Store, unbuilt: ArtifactRef) -> None:
    with store.lease(unbuilt, ttl_seconds=0.4):
        time.sleep(1)
        holder = Holder.decode(store.backend.read("leases/reward/insult/f00d/000001.json"))
    assert holder is not None and holder.beat >= 2


def test_a_dead_process_of_this_machine_is_not_waited_for(store: Store, unbuilt: ArtifactRef) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write_lease(store, 1, pid=ended.pid, host=socket.gethostname())
    with store.lease(unbuilt, ttl_seconds=NEVER):
        assert lease_files(store)[-1].endswith("000002.json")


def test_a_lease_that_is_half_written_ends_like_any_other(store: Store, unbuilt: ArtifactRef) -> None:
    store.backend.write("leases/reward/insult/f00d/000001.json", b'{"tok')
    with store.lease(unbuilt, ttl_seconds=0.5):
        assert lease_files(store)[-1].endswith("000002.json")


def test_a_lease_that_was_taken_over_is_left_to_its_new_holder(store: Store, unbuilt: ArtifactRef) -> None:
    with store.lease(unbuilt, ttl_seconds=NEVER):
        write_lease(store, 2)
    assert lease_files(store) == ["leases/reward/insult/f00d/000002.json"]


def test_a_holder_whose_lease_is_gone_does_not_bring_it_back(
    store: Store, unbuilt: ArtifactRef, caplog: pytest.LogCaptureFixture
) -> None:
    with store.lease(unbuilt, ttl_seconds=0.4):
        store.backend.delete(lease_files(store))
        time.sleep(0.5)
        assert lease_files(store) == []
    assert "taken over" in caplog.text


def test_a_heartbeat_that_fails_stops_no_build(
    folder_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(folder_uri)

    def broken(key: str, content: bytes) -> None:
        raise StoreError("the network is down")

    with store.lease(store.ref("balance", "f"), ttl_seconds=0.1):
        monkeypatch.setattr(store.backend, "write", broken)
        time.sleep(0.4)
    assert caplog.text.count("cannot be renewed, the artifact may be built twice: the network is down") == 1


def start(uri: str, log: Path, seconds: float) -> subprocess.Popen[str]:
    """Start a process that is about to build the artifact, and waits for a line before it does."""
    command = [sys.executable, "-c", BUILDER, uri, str(log), str(seconds)]
    builder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert builder.stdout is not None and builder.stdout.readline() == "ready\n"
    return builder


def let_go(builder: subprocess.Popen[str]) -> None:
    assert builder.stdin is not None
    builder.stdin.write("\n")
    builder.stdin.flush()


def said_by(builder: subprocess.Popen[str]) -> str:
    assert builder.stdout is not None
    return builder.stdout.readline()


def test_two_processes_that_need_the_same_artifact_build_it_once(store: Store, tmp_path: Path) -> None:
    builders = [start(store.uri, tmp_path / "log", 1.0) for _ in range(2)]
    for builder in builders:
        let_go(builder)
    assert [builder.wait(timeout=60) for builder in builders] == [0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def test_the_lease_of_a_killed_builder_is_taken_over(store: Store, unbuilt: ArtifactRef, tmp_path: Path) -> None:
    killed = start(store.uri, tmp_path / "log", 600)
    let_go(killed)
    assert said_by(killed) == "building\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=30)
    heir = start(store.uri, tmp_path / "log", 0)
    let_go(heir)
    assert (heir.wait(timeout=30), store.has(unbuilt)) == (0, True)


def test_waiting_ends_when_whoever_waits_is_told_to_stop(store: Store, unbuilt: ArtifactRef) -> None:
    write_lease(store, 1)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), store.lease(unbuilt, while_waiting=stop, ttl_seconds=NEVER):
        raise AssertionError("the lease is somebody else's")
