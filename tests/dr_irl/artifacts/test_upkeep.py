"""Verification, garbage and lineage."""

import os
import re
import socket
import subprocess
import sys
import time
from threading import Event, Thread

import pytest

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts import in_use as in_use_module
from dr_irl.artifacts.in_use import in_use
from dr_irl.artifacts.lease import Holder
from dr_irl.artifacts.store import Identity
from dr_irl.artifacts.upkeep import collect, garbage, lineage, verify
from dr_irl.errors import CorruptArtifactError


def commit(store: Store, stage: str, fingerprint: str, **inputs: str) -> ArtifactRef:
    with store.build(Identity(stage, fingerprint, {}, inputs, {})) as folder:
        (folder / "file").write_text(fingerprint)
    return store.ref(stage, fingerprint)


@pytest.fixture
def chain(store: Store) -> list[ArtifactRef]:
    """Three artifacts, each made from the one before."""
    return [
        commit(store, "sources", "50"),
        commit(store, "reward/insult", "60", demonstrations="50", model="a content hash"),
        commit(store, "alignment", "70", reward="60"),
    ]


def kinds(store: Store, roots: list[ArtifactRef], min_age_seconds: float = -60.0) -> list[tuple[str, str]]:
    """Return (kind, key) of the garbage; by default of any age, the server's clock a minute wrong or not."""
    return [
        (item.kind, item.key)
        for item in garbage(store, roots, in_use(store.backend), min_age_seconds=min_age_seconds).items
    ]


def test_sound_artifacts_have_no_problem(store: Store, chain: list[ArtifactRef]) -> None:
    assert set(verify(store)) == {(ref, None) for ref in chain}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("file", b"61", "the contents of .*file do not match its hash"),
        ("file", b"6", "file is 1 bytes long, not 2"),
        ("manifest.json", b"{", "does not parse"),
    ],
)
def test_a_damaged_artifact_is_named(
    store: Store, chain: list[ArtifactRef], name: str, content: bytes, problem: str
) -> None:
    store.backend.write(f"objects/reward/insult/60/{name}", content)
    problems = {ref: found for ref, found in verify(store) if found}
    assert list(problems) == [chain[1]] and re.search(problem, problems[chain[1]])


def test_verification_moves_nothing(store: Store, chain: list[ArtifactRef]) -> None:
    store.backend.write("objects/reward/insult/60/file", b"61")
    before = store.backend.files("")
    list(verify(store))
    assert store.backend.files("") == before


def test_what_a_root_was_made_from_is_kept(store: Store, chain: list[ArtifactRef]) -> None:
    assert kinds(store, [chain[2]]) == []


def test_what_no_root_was_made_from_is_garbage(store: Store, chain: list[ArtifactRef]) -> None:
    assert kinds(store, [chain[1]]) == [("artifact", "objects/alignment/70")]


def test_nothing_young_is_garbage(store: Store, chain: list[ArtifactRef]) -> None:
    store.checkpoint(chain[0]).write(b"state")
    assert kinds(store, [], min_age_seconds=3600.0) == []


def test_an_artifact_counts_all_its_bytes(store: Store, chain: list[ArtifactRef]) -> None:
    sizes = [stat.size for stat in store.backend.files("objects/alignment/70").values()]
    assert garbage(store, chain[:2], in_use(store.backend), min_age_seconds=-60.0).bytes == sum(sizes) > 2


def test_a_root_that_was_removed_keeps_nothing(store: Store, chain: list[ArtifactRef]) -> None:
    store.remove(chain[2])
    assert len(kinds(store, [chain[2]])) == 2


def test_nothing_is_garbage_for_certain_while_a_kept_manifest_is_damaged(
    store: Store, chain: list[ArtifactRef]
) -> None:
    store.backend.write("objects/reward/insult/60/manifest.json", b"{")
    with pytest.raises(CorruptArtifactError, match="reward/insult/60.*run again to rebuild it"):
        garbage(store, [chain[2]], in_use(store.backend), min_age_seconds=0.0)


def test_what_killed_builds_left_is_garbage(store: Store) -> None:
    store.backend.write("staging/reward-insult-abc/adapter/weights", b"half")
    assert kinds(store, []) == [("staging", "staging/reward-insult-abc")]


def test_damaged_copies_are_garbage_one_by_one(store: Store) -> None:
    for copy in ("reference-sampling/f00d-01234567", "reference-sampling/f00d-89abcdef"):
        store.backend.write(f"damaged/{copy}/adapter/weights", b"bad")
    assert [key for _, key in kinds(store, [])] == [
        "damaged/reference-sampling/f00d-01234567",
        "damaged/reference-sampling/f00d-89abcdef",
    ]


def test_old_checkpoints_are_garbage(store: Store, chain: list[ArtifactRef]) -> None:
    store.checkpoint(chain[0]).write(b"state")
    assert kinds(store, chain) == [("checkpoint", "checkpoints/sources/50")]


def test_the_lease_of_a_dead_process_is_garbage(store: Store) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write_lease(store, ended.pid)
    assert kinds(store, []) == [("lease", "leases/balance/f/000001.json")]


def test_the_lease_of_a_living_process_is_kept(store: Store) -> None:
    write_lease(store, os.getpid())
    assert kinds(store, []) == []


def write_lease(store: Store, pid: int, *needs: str, host: str = socket.gethostname()) -> None:
    holder = Holder(token="t", beat=0, host=host, pid=pid, needs=needs)
    store.backend.write("leases/balance/f/000001.json", holder.model_dump_json().encode())


def test_collected_garbage_is_gone_and_the_rest_is_not(store: Store, chain: list[ArtifactRef]) -> None:
    store.backend.write("staging/reward-insult-abc/weights", b"half")
    store.backend.write("damaged/balance/f00d-01234567/weights", b"bad")
    store.checkpoint(chain[0]).write(b"state")
    collect(store, garbage(store, [chain[1]], in_use(store.backend), min_age_seconds=-60.0))
    left = {key.split("/")[0] for key in store.backend.files("")}
    assert (left, store.refs()) == ({".dr-irl-store", "objects"}, [chain[1], chain[0]])


def test_the_lineage_of_an_artifact_is_what_it_was_made_from(store: Store, chain: list[ArtifactRef]) -> None:
    reward = lineage(store, chain[2]).inputs["reward"]
    assert (reward.ref, reward.inputs["demonstrations"].ref) == (chain[1], chain[0])


def test_an_input_that_is_no_artifact_ends_the_lineage(store: Store, chain: list[ArtifactRef]) -> None:
    model = lineage(store, chain[1]).inputs["model"]
    assert (model.fingerprint, model.ref, model.inputs) == ("a content hash", None, {})


def test_results_of_artifacts_that_nothing_needs_are_garbage(store: Store) -> None:
    for name in ("kept", "lost"):
        with store.build(Identity("balance", name, {}, {}, {})) as folder:
            (folder / "rows").write_text("x")
        store.backend.write(f"results/balance/{name}", b"{}")
    found = garbage(store, [store.ref("balance", "kept")], in_use(store.backend), min_age_seconds=-60.0)
    assert [item.key for item in found.items if item.kind == "result"] == ["results/balance/lost"]


def test_what_a_run_needs_is_kept_with_all_it_was_made_from(store: Store, chain: list[ArtifactRef]) -> None:
    with store.needing([chain[1], store.ref("report", "not built yet")]):
        assert kinds(store, []) == [("artifact", "objects/alignment/70")]


def test_what_a_build_reads_is_kept(store: Store, chain: list[ArtifactRef]) -> None:
    with store.lease(store.ref("alignment", "71"), needs=[chain[1]]):
        assert kinds(store, []) == [("artifact", "objects/alignment/70")]


def test_the_state_of_a_live_build_is_kept(store: Store) -> None:
    building = store.ref("reward/insult", "61")
    for checkpoint in (whole := store.checkpoint(building), whole.part("insult")):
        checkpoint.write(b"state")
    whole.write_failure("{}")
    store.backend.write("results/reward/insult/61", b"{}")
    store.backend.write("staging/reward-insult-abc/weights", b"half")
    with store.lease(building):
        assert kinds(store, []) == []
    assert [kind for kind, _ in kinds(store, [])] == ["staging", *["checkpoint"] * 3, "result"]


def test_a_run_that_ended_needs_nothing(store: Store, chain: list[ArtifactRef]) -> None:
    with store.needing(chain):
        assert kinds(store, []) == []
    assert len(kinds(store, [])) == len(chain)


def test_what_came_to_be_needed_after_it_was_found_is_not_deleted(store: Store, chain: list[ArtifactRef]) -> None:
    found = garbage(store, [], in_use(store.backend), min_age_seconds=-60.0)
    with store.needing(chain[:2]):
        collect(store, found)
    assert store.refs() == [chain[1], chain[0]]


def test_a_run_that_begins_while_somebody_clears_up_waits_and_says_for_whom(store: Store) -> None:
    said: list[str] = []
    entered = Event()

    def begin() -> None:
        with store.needing([], said.append):
            entered.set()

    with store.clearing():
        beginning = Thread(target=begin)
        beginning.start()
        assert not entered.wait(2.0)
    beginning.join(timeout=30)
    expected = f"the store is being cleared up by process {os.getpid()} on {socket.gethostname()}; waiting for it"
    assert (entered.is_set(), said) == (True, [expected])


def test_what_a_stopped_process_needs_is_kept_however_long_it_is_silent(
    store: Store, chain: list[ArtifactRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lease(store, os.getpid(), "70")
    monkeypatch.setattr(in_use_module, "_DEAD_AFTER_SECONDS", -60.0)
    assert kinds(store, []) == []


def test_what_a_silent_process_elsewhere_needs_is_not(
    store: Store, chain: list[ArtifactRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lease(store, os.getpid(), "70", host="elsewhere")
    assert kinds(store, []) == []
    monkeypatch.setattr(in_use_module, "_DEAD_AFTER_SECONDS", -60.0)
    assert len(kinds(store, [])) == len(chain) + 1


def test_a_clock_that_jumps_makes_nothing_old(
    store: Store, chain: list[ArtifactRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    with store.clearing():
        monkeypatch.setattr(time, "time", lambda: real() + 365 * 86400)
        assert kinds(store, [], min_age_seconds=3600.0) == []


def test_a_run_removes_what_killed_runs_left_of_themselves(store: Store) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    holder = Holder(token="t", beat=0, host=socket.gethostname(), pid=ended.pid)
    store.backend.write("leases/.running/t/000001.json", holder.model_dump_json().encode())
    with store.needing([]):
        assert len(store.backend.files("leases")) == 1
    assert store.backend.files("leases") == {}
