"""`dr-irl store`: what a person reads, and what is deleted."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.store import Identity
from dr_irl.errors import UserError
from dr_irl.profile import load_settings
from dr_irl.records import Completion
from flows.commands.store import app
from flows.record import finish_run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def make(store: Store, stage: str, fingerprint: str, **inputs: ArtifactRef) -> ArtifactRef:
    identity = Identity(stage, fingerprint, {"x": 1}, {role: ref.fingerprint for role, ref in inputs.items()}, {})
    with store.build(identity) as folder:
        Completion.write([Completion("p", 0, "hello", 2, False)], folder / "rows.parquet")
    return store.ref(stage, fingerprint)


@pytest.fixture
def chain(store: Store) -> list[ArtifactRef]:
    """Three artifacts, each made from the one before, and a run that needs them all."""
    balance = make(store, "balance", "aaaa1111")
    reward = make(store, "reward/insult", "bbbb2222", balance=balance)
    grpo = make(store, "grpo", "cccc3333", reward=reward)
    finish_run(store, load_settings("smoke"), {"grpo": grpo}, None)
    return [balance, reward, grpo]


def dr_irl_store(store: Store, *arguments: str) -> Result:
    return dr_irl_store_at(store.uri, *arguments)


def dr_irl_store_at(place: str | Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--store", str(place)])


def collect(store: Store, *arguments: str) -> str:
    """Look for garbage of any age."""
    return dr_irl_store(store, "gc", "--min-age", "0s", *arguments).stdout


def test_artifacts_are_listed_with_their_rows(store: Store, chain: list[ArtifactRef]) -> None:
    lines = dr_irl_store(store, "ls").stdout.splitlines()
    assert [(line.split()[:2], line.split()[-2:]) for line in lines] == [
        (["balance", "aaaa1111"], ["1", "rows"]),
        (["grpo", "cccc3333"], ["1", "rows"]),
        (["reward/insult", "bbbb2222"], ["1", "rows"]),
    ]


def test_one_stage_is_listed_with_its_variants(store: Store, chain: list[ArtifactRef]) -> None:
    assert [line.split()[0] for line in dr_irl_store(store, "ls", "reward").stdout.splitlines()] == ["reward/insult"]


def test_a_damaged_manifest_is_listed_as_such(store: Store, chain: list[ArtifactRef]) -> None:
    Path(chain[0].uri, "manifest.json").write_text("{")
    assert "damaged: " in dr_irl_store(store, "ls").stdout


def test_the_lineage_of_an_artifact_is_shown_to_its_sources(store: Store, chain: list[ArtifactRef]) -> None:
    shown = dr_irl_store(store, "show", "cccc").stdout
    assert shown.splitlines()[-2:] == ["  reward: reward/insult bbbb2222", "    balance: balance aaaa1111"]


def test_the_manifest_of_an_artifact_is_shown_as_json(store: Store, chain: list[ArtifactRef]) -> None:
    shown = dr_irl_store(store, "show", "cccc").stdout
    assert json.loads(shown[: shown.index("\nmade from")])["settings"] == {"x": 1}


@pytest.mark.parametrize("name", ["dddd", "aaa", ""])
def test_a_name_of_no_artifact_is_told(store: Store, chain: list[ArtifactRef], name: str) -> None:
    with pytest.raises(UserError, match=rf"{name!r} names \d artifacts .*dr-irl store ls lists them"):
        raise dr_irl_store(store, "show", name).exception or AssertionError("no error")


def test_a_sound_store_is_verified(store: Store, chain: list[ArtifactRef]) -> None:
    verified = dr_irl_store(store, "verify")
    assert (verified.exit_code, verified.stdout) == (0, "3 artifacts checked, 0 damaged\n")


def test_a_damaged_artifact_is_named_with_status_1(store: Store, chain: list[ArtifactRef]) -> None:
    Path(chain[1].uri, "rows.parquet").write_bytes(b"0")
    verified = dr_irl_store(store, "verify")
    assert verified.exit_code == 1
    assert "reward/insult bbbb2222: " in verified.stderr


def test_what_a_run_needs_is_no_garbage(store: Store, chain: list[ArtifactRef]) -> None:
    assert collect(store).startswith("0 runs and 0 items")


def test_what_no_run_needs_is_garbage(store: Store, chain: list[ArtifactRef]) -> None:
    make(store, "balance", "dddd4444")
    collect(store, "--delete")
    assert [ref.fingerprint for ref in store.refs()] == ["aaaa1111", "cccc3333", "bbbb2222"]


def test_nothing_is_deleted_unless_asked(store: Store, chain: list[ArtifactRef]) -> None:
    make(store, "balance", "dddd4444")
    said = collect(store)
    assert "objects/balance/dddd4444" in said and "would be deleted; add --delete" in said
    assert len(store.refs()) == 4


def test_what_is_young_is_left_alone(store: Store, chain: list[ArtifactRef]) -> None:
    make(store, "balance", "dddd4444")
    assert "0 items" in dr_irl_store(store, "gc").stdout


def test_a_run_that_is_not_kept_keeps_nothing(store: Store, chain: list[ArtifactRef]) -> None:
    collect(store, "--keep", "0", "--delete")
    assert (store.refs(), store.list_keys("runs")) == ([], [])


@pytest.mark.parametrize("text", ["1w", "d", "-1d", "1.5h", ""])
def test_an_age_that_is_none_is_told(store: Store, text: str) -> None:
    with pytest.raises(UserError, match="write a whole number and s, m, h or d, for example 12h"):
        raise dr_irl_store(store, "gc", "--min-age", text).exception or AssertionError("no error")


@pytest.mark.parametrize("command", [["ls"], ["show", "aaaa"], ["verify"], ["gc"]])
def test_looking_into_a_store_that_is_not_there_makes_none(tmp_path: Path, command: list[str]) -> None:
    with pytest.raises(UserError, match=r"there is no store at '.*mistyped'; dr-irl run makes one"):
        raise dr_irl_store_at(tmp_path / "mistyped", *command).exception or AssertionError("no error")
    assert not (tmp_path / "mistyped").exists()
