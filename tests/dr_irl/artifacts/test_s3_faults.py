"""A store behind a network that fails: the same bytes come back, or it is told and leaves nothing half done."""

import random
import time
from collections.abc import Callable
from typing import Any

import fault_proxy
import pytest

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts import s3 as s3_module
from dr_irl.artifacts.store import Identity
from dr_irl.artifacts.upkeep import verify
from dr_irl.errors import CorruptArtifactError, StoreError

MADE = Identity("reward/insult", "f00d", {}, {}, {})
CONTENT = random.Random(0).randbytes(100_000)


@pytest.fixture
def store(proxy: Any, moto_uri: str, use_endpoint: Callable[[str], None]) -> Store:
    """A store behind a proxy that passes everything on, until its plan is changed."""
    use_endpoint(proxy.url)
    return Store(moto_uri)


@pytest.fixture
def ref(store: Store) -> ArtifactRef:
    return commit(store)


def commit(store: Store) -> ArtifactRef:
    with store.build(MADE) as folder:
        for name in ("a", "b", "c"):
            (folder / name).write_bytes(CONTENT)
    return store.ref(MADE.stage, MADE.fingerprint)


def test_a_store_works_while_a_third_of_all_requests_fail(proxy: Any, store: Store) -> None:
    fault = fault_proxy.Fault
    proxy.plan = fault_proxy.seeded(1, 1 / 3, [fault.ERROR, fault.SLOW_DOWN, fault.RESET, fault.TRUNCATE, fault.DELAY])
    ref = commit(store)
    store.checkpoint(ref).write(CONTENT)
    folder = store.fetch(ref)
    assert [(folder / name).read_bytes() for name in "abc"] == [CONTENT] * 3
    assert (store.checkpoint(ref).read(), store.refs()) == (CONTENT, [ref])
    assert len(proxy.faults()) >= 3


@pytest.mark.parametrize("name", ["TRUNCATE", "SHORTEN", "ALTER"])
def test_a_body_broken_on_its_way_condemns_no_artifact(proxy: Any, store: Store, ref: ArtifactRef, name: str) -> None:
    times = iter(range(2))
    fault = fault_proxy.Fault[name]
    proxy.plan = lambda method, path: fault if path.endswith("/b") and next(times, None) is not None else None
    assert (store.fetch(ref) / "b").read_bytes() == CONTENT
    assert len(proxy.faults()) == 2


@pytest.mark.parametrize("name", ["TRUNCATE", "SHORTEN", "ALTER"])
def test_a_network_that_always_breaks_bodies_is_told_and_condemns_no_artifact(
    proxy: Any, store: Store, ref: ArtifactRef, name: str
) -> None:
    fault = fault_proxy.Fault[name]
    proxy.plan = lambda method, path: fault if path.endswith("/b") else None
    with pytest.raises(StoreError, match=r"4 (times|attempts)"):
        store.fetch(ref)
    proxy.plan = lambda method, path: None
    assert Store(store.uri).has(ref)


def test_a_manifest_cut_short_on_its_way_condemns_no_artifact(proxy: Any, store: Store, ref: ArtifactRef) -> None:
    times = iter(range(2))
    cut = fault_proxy.Fault.TRUNCATE
    proxy.plan = lambda method, path: cut if "manifest" in path and next(times, None) is not None else None
    assert store.has(ref)


def test_verification_does_not_take_a_broken_body_for_damage(proxy: Any, store: Store, ref: ArtifactRef) -> None:
    times = iter(range(2))
    alter = fault_proxy.Fault.ALTER
    proxy.plan = lambda method, path: alter if path.endswith("/b") and next(times, None) is not None else None
    assert list(verify(store)) == [(ref, None)]


def test_damage_on_the_server_is_found_through_a_failing_network(proxy: Any, store: Store, ref: ArtifactRef) -> None:
    store.backend.write("objects/reward/insult/f00d/b", CONTENT[::-1])
    times = iter(range(1))
    alter = fault_proxy.Fault.ALTER
    proxy.plan = lambda method, path: alter if path.endswith("/b") and next(times, None) is not None else None
    with pytest.raises(CorruptArtifactError, match="the contents of b do not match its hash"):
        store.fetch(ref)


def test_an_answer_that_is_lost_after_a_commit_does_not_lose_the_commit(
    proxy: Any, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    times = iter(range(1))
    lost = fault_proxy.Fault.LOST
    proxy.plan = lambda method, path: (
        lost if (method, "manifest" in path) == ("PUT", True) and next(times, None) is not None else None
    )
    with caplog.at_level("INFO"):
        assert store.has(commit(store))
    assert len(proxy.faults()) == 1 and "another run" not in caplog.text


def test_a_refused_download_is_told(proxy: Any, store: Store, ref: ArtifactRef) -> None:
    proxy.plan = lambda method, path: fault_proxy.Refusal(403, "AccessDenied") if path.endswith("/b") else None
    with pytest.raises(StoreError, match="cannot read the store .*access is denied"):
        store.fetch(ref)


def test_a_server_that_keeps_failing_is_told_and_leaves_no_artifact(
    proxy: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "RUNNING_ATTEMPTS", 3)
    impatient = Store(store.uri)
    slow_down = fault_proxy.Fault.SLOW_DOWN
    proxy.plan = lambda method, path: slow_down if method == "PUT" and path.endswith("/c") else None
    with pytest.raises(StoreError, match="cannot write the store .*kept answering that it is overloaded"):
        commit(impatient)
    proxy.plan = lambda method, path: None
    assert (store.refs(), store.has(store.ref(MADE.stage, MADE.fingerprint))) == ([], False)


def test_what_a_failed_upload_left_is_cleared_by_the_next(
    proxy: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "RUNNING_ATTEMPTS", 2)
    impatient = Store(store.uri)
    proxy.plan = lambda method, path: fault_proxy.Refusal(403, "AccessDenied") if path.endswith("/c") else None
    with pytest.raises(StoreError):
        commit(impatient)
    proxy.plan = lambda method, path: None
    with store.build(MADE) as folder:
        (folder / "other").write_text("x")
    assert {key.rpartition("/")[2] for key in store.backend.files("objects")} == {"manifest.json", "other"}


def test_an_upload_that_the_server_cut_short_is_repeated(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upload = store.backend.upload  # pyright: ignore[reportAttributeAccessIssue]
    times = iter(range(1))

    def lossy(path: Any, key: str) -> None:
        upload(path, key)
        if key.endswith("/a") and next(times, None) is not None:  # files go up side by side
            store.backend.write(key, CONTENT[:5])

    monkeypatch.setattr(store.backend, "upload", lossy)
    ref = commit(store)
    assert "uploading again what did not arrive whole: a" in caplog.text and store.has(ref)


def test_a_large_file_is_uploaded_in_parts_each_repeated_by_itself(
    proxy: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_module, "PART_BYTES", 5 * 2**20)  # the least S3 allows
    times = iter(range(1))
    reset = fault_proxy.Fault.RESET
    proxy.plan = lambda method, path: reset if "partNumber=2" in path and next(times, None) is not None else None
    large = random.Random(1).randbytes(12 * 2**20)
    with store.build(MADE) as folder:
        (folder / "weights").write_bytes(large)
    assert (store.fetch(store.ref(MADE.stage, MADE.fingerprint)) / "weights").read_bytes() == large
    parts = [path.partition("partNumber=")[2][0] for _, path, _ in proxy.done if "partNumber=" in path]
    assert sorted(parts) == ["1", "2", "2", "3"]


@pytest.mark.slow
def test_a_file_above_the_real_part_size_survives_a_failing_network(proxy: Any, store: Store) -> None:
    fault = fault_proxy.Fault
    proxy.plan = fault_proxy.seeded(2, 1 / 5, [fault.ERROR, fault.SLOW_DOWN, fault.RESET])
    large = random.Random(2).randbytes(120 * 2**20)
    with store.build(MADE) as folder:
        (folder / "weights").write_bytes(large)
    assert (store.fetch(store.ref(MADE.stage, MADE.fingerprint)) / "weights").read_bytes() == large


@pytest.mark.slow
def test_a_run_under_way_sits_out_an_outage(proxy: Any, store: Store, ref: ArtifactRef) -> None:
    until = time.monotonic() + 8
    proxy.plan = lambda method, path: fault_proxy.Fault.RESET if time.monotonic() < until else None
    assert (store.fetch(ref) / "a").read_bytes() == CONTENT
