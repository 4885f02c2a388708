"""Versions that never change, and a champion that is moved one step at a time: in a folder and on real S3 servers."""

import json
import logging
import threading
import time
from pathlib import Path

import pytest

from dr_irl.artifacts import Store
from dr_irl.artifacts.in_use import in_use
from dr_irl.artifacts.upkeep import collect, garbage
from dr_irl.errors import CorruptArtifactError, DrIrlError, GateError, StoreError, UserError
from dr_irl.promotion.published import version_of
from dr_irl.promotion.registry import Registry

V1, V2, V3 = (f"2026113{day}-030000-0000000{day}" for day in range(3))

everywhere = pytest.mark.parametrize("store", ["folder", "moto", "rclone"], indirect=True)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """What is published."""
    folder = tmp_path / "files"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "weights").write_text("0123456789")
    (folder / "README.md").write_text("a card")
    return folder


@pytest.fixture
def promoted(registry: Registry, files: Path) -> Registry:
    """A registry with three versions of `safe`, promoted one after the other."""
    before = None
    for version in (V1, V2, V3):
        registry.publish("safe", version, files, {"run_id": f"run-{version}"})
        registry.promote("safe", version, replaces=before, run_id=f"run-{version}")
        before = version
    return registry


def champion(registry: Registry) -> str | None:
    move = registry.champion("safe")
    return move.version if move else None


@everywhere
def test_a_version_has_the_files_with_their_hashes(registry: Registry, store: Store, files: Path) -> None:
    registry.publish("safe", V1, files, {"run_id": "r"})
    published = json.loads(store.read_text(f"models/safe/{V1}/version.json"))
    assert sorted(published["files"]) == ["README.md", "adapter/weights"]
    assert published["files"]["adapter/weights"]["sha256"].startswith("84d89877")  # sha256sum of 0123456789
    assert (registry.fetch("safe", V1) / "adapter" / "weights").read_text() == "0123456789"


def test_publishing_alone_makes_no_champion(registry: Registry, files: Path) -> None:
    registry.publish("safe", V1, files, {})
    assert registry.champion("safe") is None and registry.versions("safe") == [V1]


def test_the_same_files_may_be_published_again(registry: Registry, files: Path) -> None:
    first = registry.publish("safe", V1, files, {"run_id": "r"})
    assert registry.publish("safe", V1, files, {"run_id": "another"}) == first


@everywhere
def test_a_version_never_changes(registry: Registry, store: Store, files: Path) -> None:
    registry.publish("safe", V1, files, {})
    (files / "README.md").write_text("another card")
    with pytest.raises(StoreError, match=r"published already, with another README.md; a version never changes"):
        registry.publish("safe", V1, files, {})
    assert store.read_text(f"models/safe/{V1}/README.md") == "a card"


def test_files_without_a_version_file_are_no_version(registry: Registry, store: Store) -> None:
    store.write_text(f"models/safe/{V1}/adapter/weights", "0123")
    assert registry.versions("safe") == [] and registry.names() == []


@everywhere
def test_a_publication_that_was_cut_off_is_completed(registry: Registry, store: Store, files: Path) -> None:
    store.write_text(f"models/safe/{V1}/adapter/weights", "0123")
    registry.publish("safe", V1, files, {})
    assert registry.verify("safe", V1) is None


@pytest.mark.parametrize("name", ["", "..", "../safe", "a/b", "Safe", "-safe", ".safe", "a" * 65, "safe\n"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, files: Path, name: str) -> None:
    with pytest.raises(UserError, match="is no name of a model"):
        Registry(Store(str(tmp_path / "s"))).publish(name, V1, files, {})


@pytest.mark.parametrize("version", ["", "..", "history", "1", f"{V1}/.."])
def test_versions_of_another_form_are_refused(tmp_path: Path, files: Path, version: str) -> None:
    with pytest.raises(UserError, match="is no version"):
        Registry(Store(str(tmp_path / "s"))).publish("safe", version, files, {})


def test_the_champion_names_its_version_its_run_and_the_one_before(promoted: Registry, store: Store) -> None:
    pointer = json.loads(store.read_text("models/safe/champion.json"))
    assert (pointer["version"], pointer["run_id"], pointer["previous"], pointer["generation"]) == (
        V3,
        f"run-{V3}",
        V2,
        3,
    )
    assert pointer["at"].startswith("20")


def test_every_move_is_in_the_history(promoted: Registry, store: Store) -> None:
    promoted.rollback("safe")
    moves = [json.loads(store.read_text(key)) for key in store.list_keys("models/safe/history")]
    assert [(move["action"], move["version"]) for move in moves] == [
        ("promote", V1),
        ("promote", V2),
        ("promote", V3),
        ("rollback", V2),
    ]


def test_a_result_that_was_compared_with_another_champion_may_not_replace_it(registry: Registry, files: Path) -> None:
    registry.publish("safe", V1, files, {})
    registry.publish("safe", V2, files, {})
    registry.promote("safe", V1, replaces=None, run_id="r")
    with pytest.raises(GateError, match=f"no longer none but {V1}, since 20.* UTC; run again"):
        registry.promote("safe", V2, replaces=None, run_id="r")
    assert champion(registry) == V1


@everywhere
def test_of_two_promotions_at_once_one_wins_and_the_other_gets_a_sentence(store: Store, files: Path) -> None:
    for version in (V1, V2):
        Registry(store).publish("safe", version, files, {})
    together, outcomes = threading.Barrier(2), list[str]()

    def promote(version: str) -> None:
        together.wait()
        try:
            Registry(store).promote("safe", version, replaces=None, run_id="r")
            outcomes.append(version)
        except GateError as error:
            outcomes.append(str(error).split(";")[0].split(" since")[0])

    threads = [threading.Thread(target=promote, args=(version,)) for version in (V1, V2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    winner = champion(Registry(store))
    assert winner in outcomes and len(set(outcomes) & {V1, V2}) == 1, outcomes


@everywhere
def test_a_pointer_that_was_written_late_is_written_again(
    registry: Registry, store: Store, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two moves writes its pointer last."""
    for version in (V1, V2):
        registry.publish("safe", version, files, {})
    write, moves = store.backend.write, iter([V2])

    def late(key: str, content: bytes) -> None:
        if key.endswith("champion.json") and (version := next(moves, None)):
            registry.promote("safe", version, replaces=V1, run_id="second")
        write(key, content)

    monkeypatch.setattr(store.backend, "write", late)
    registry.promote("safe", V1, replaces=None, run_id="first")
    assert json.loads(store.read_text("models/safe/champion.json"))["version"] == V2


@everywhere
def test_of_two_that_publish_one_version_one_wins_and_the_other_is_told(
    registry: Registry, store: Store, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (others := tmp_path / "others" / "adapter").mkdir(parents=True)
    (others / "weights").write_text("9876543210")
    (others.parent / "README.md").write_text("a card")
    write, began = store.backend.write, threading.Event()

    def slow(key: str, content: bytes) -> None:
        write(key, content)
        if key.endswith("adapter/weights"):
            began.set()
            time.sleep(1.0)

    monkeypatch.setattr(store.backend, "write", slow)
    first = threading.Thread(target=registry.publish, args=("safe", V1, files, {}))
    first.start()
    assert began.wait(30)
    with pytest.raises(StoreError, match="published already, with another adapter/weights; a version never changes"):
        Registry(store).publish("safe", V1, others.parent, {})
    first.join()
    assert registry.verify("safe", V1) is None
    assert store.backend.files("leases") == {}


@everywhere
def test_rolling_back_goes_one_promotion_further_each_time(promoted: Registry) -> None:
    assert [promoted.rollback("safe").version, promoted.rollback("safe").version] == [V2, V1]
    with pytest.raises(UserError, match="had no champion before the present one"):
        promoted.rollback("safe")


def test_any_version_can_be_gone_back_to(promoted: Registry) -> None:
    promoted.rollback("safe", V1)
    assert champion(promoted) == V1


def test_going_back_to_what_is_not_there_is_refused(promoted: Registry) -> None:
    with pytest.raises(UserError, match=f"has no version 'x'; it has: {V1}, {V2}, {V3}"):
        promoted.rollback("safe", "x")


def test_going_back_to_the_champion_itself_is_refused(promoted: Registry) -> None:
    with pytest.raises(UserError, match="is the champion of 'safe' already"):
        promoted.rollback("safe", V3)


def test_a_damaged_version_is_not_gone_back_to(promoted: Registry, store: Store) -> None:
    store.write_text(f"models/safe/{V2}/README.md", "cut")
    with pytest.raises(CorruptArtifactError, match="README.md is 3 bytes long, not 6"):
        promoted.rollback("safe")


@everywhere
@pytest.mark.parametrize("content", [None, "", '{"version": "x"}'])
def test_a_damaged_pointer_is_told_and_the_history_decides(
    promoted: Registry, store: Store, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    if content is None:
        store.backend.delete(["models/safe/champion.json"])
    else:
        store.write_text("models/safe/champion.json", content)
    with caplog.at_level(logging.WARNING):
        assert champion(promoted) == V3
    assert f"by the history its champion is {V3}" in caplog.text


@everywhere
def test_a_champion_that_is_not_whole_falls_back_to_the_last_one_that_is(promoted: Registry, store: Store) -> None:
    store.backend.delete([f"models/safe/{V3}/adapter/weights"])
    assert champion(promoted) == V2


def test_a_champion_that_is_gone_falls_back_to_the_last_one_that_is_there(promoted: Registry, store: Store) -> None:
    store.backend.delete_tree(f"models/safe/{V3}")
    assert champion(promoted) == V2


@everywhere
def test_a_pointer_that_was_left_behind_does_not_count(promoted: Registry, store: Store) -> None:
    before = store.read_text("models/safe/champion.json")
    promoted.rollback("safe")
    store.write_text("models/safe/champion.json", before)
    assert champion(promoted) == V2


def test_a_damaged_pointer_is_written_anew_by_the_next_move(promoted: Registry, store: Store) -> None:
    store.write_text("models/safe/champion.json", "{")
    promoted.rollback("safe")
    assert json.loads(store.read_text("models/safe/champion.json"))["version"] == V2


def test_where_nothing_tells_the_champion_versions_are_named(promoted: Registry, store: Store) -> None:
    store.backend.delete_tree("models/safe/history")
    store.write_text("models/safe/champion.json", "{")
    with pytest.raises(CorruptArtifactError, match=f"rollback safe --to VERSION, one of: {V1}, {V2}, {V3}"):
        promoted.champion("safe")
    assert promoted.rollback("safe", V2).version == V2 and champion(promoted) == V2


@everywhere
def test_garbage_collection_leaves_versions_alone(promoted: Registry, store: Store) -> None:
    collect(store, garbage(store, [], in_use(store.backend), min_age_seconds=-60.0))
    assert champion(promoted) == V3 and promoted.verify("safe", V3) is None


@everywhere
def test_verification_names_the_file_that_changed(promoted: Registry, store: Store) -> None:
    store.write_text(f"models/safe/{V1}/adapter/weights", "9876543210")
    assert "adapter/weights do not match its hash" in str(promoted.verify("safe", V1))


def test_adapters_are_found_by_name_and_by_version(promoted: Registry, store: Store) -> None:
    assert promoted.adapter_uri("safe") == f"{store.uri}/models/safe/{V3}/adapter"
    assert promoted.adapter_uri(f"safe/{V1}") == f"{store.uri}/models/safe/{V1}/adapter"


@pytest.mark.parametrize("model", ["other", "some-org/some-model", "s3://bucket/x", "/folder", "./folder", "bundled:x"])
def test_what_is_no_registered_model_has_no_adapter_here(tmp_path: Path, model: str) -> None:
    assert Registry(Store(str(tmp_path / "s"))).adapter_uri(model) is None


def test_a_version_that_a_registered_model_lacks_is_told(promoted: Registry) -> None:
    with pytest.raises(UserError, match="has no version '1'"):
        promoted.adapter_uri("safe/1")


def test_a_model_without_a_champion_is_told(registry: Registry, files: Path) -> None:
    registry.publish("safe", V1, files, {})
    with pytest.raises(UserError, match=f"has no champion; name a version: {V1}"):
        registry.adapter_uri("safe")


def test_a_version_of_a_newer_format_is_no_traceback(promoted: Registry, store: Store) -> None:
    key = f"models/safe/{V1}/version.json"
    store.write_text(key, store.read_text(key).replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(DrIrlError, match="format version 2, and this dr-irl reads up to 1; upgrade dr-irl"):
        promoted.version("safe", V1)


def test_a_version_is_called_by_the_time_and_fingerprint_of_its_run() -> None:
    assert version_of("my-profile-20261130-030000-1a2b3c4d") == "20261130-030000-1a2b3c4d"
