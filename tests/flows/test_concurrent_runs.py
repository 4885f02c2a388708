"""Runs that need the same artifacts at the same time: each is built once, and the others wait for it."""

import json
import re
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]


@dataclass(frozen=True)
class Pair:
    """Two runs on one store, both ended."""

    runs: list[Any]
    store: Path
    built: Counter[str]
    """Artifact -> how many tasks of the two built it, as the server was told."""
    found: int
    """How many tasks of the two found theirs in the store."""


def artifacts(store: Path) -> list[str]:
    found = [json.loads(path.read_text()) for path in store.glob("objects/**/manifest.json")]
    return sorted(f"{manifest['stage']} {manifest['fingerprint']}" for manifest in found)


@pytest.fixture(scope="module")
def pair(
    make_dr_irl: Callable[..., Any], prefect_api: str, ask_prefect: Ask, tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    """Two runs, started at the same moment."""
    store = tmp_path_factory.mktemp("shared") / "store"
    commands = make_dr_irl(prefect_api)
    runs = [commands.start("run", "--profile", "smoke", "--store", str(store)) for _ in range(2)]
    for run in runs:
        run.wait()
    flows = [flow["id"] for flow in ask_prefect("flow_runs/filter", {}) if flow["parameters"]["store"] == str(store)]
    tasks = ask_prefect("task_runs/filter", {"task_runs": {"flow_run_id": {"any_": flows}}, "limit": 200})
    built = [task["state"]["message"] for task in tasks if task["state"]["name"] != "Cached"]
    return Pair(runs, store, Counter(word.removesuffix(" built") for word in built), len(tasks) - len(built))


@pytest.mark.slow
def test_two_runs_at_once_both_end_well(pair: Pair) -> None:
    assert [run.wait() for run in pair.runs] == [0, 0], [run.err for run in pair.runs]


@pytest.mark.slow
def test_two_runs_at_once_build_every_artifact_once(pair: Pair) -> None:
    assert pair.built == Counter(artifacts(pair.store))


@pytest.mark.slow
def test_what_one_run_built_the_other_finds(pair: Pair) -> None:
    assert pair.found == len(artifacts(pair.store))


@pytest.mark.slow
def test_two_runs_at_once_leave_a_sound_store(pair: Pair, make_dr_irl: Callable[..., Any]) -> None:
    verified = make_dr_irl().run("store", "verify", "--store", str(pair.store))
    assert verified.wait() == 0, verified.out + verified.err


@pytest.mark.slow
def test_two_runs_at_once_leave_no_scratch_folder_and_no_lease(pair: Pair) -> None:
    assert [path for kind in ("staging", "leases") for path in (pair.store / kind).rglob("*")] == []


@dataclass(frozen=True)
class TakenOver:
    """A run that was killed while it built something, and one that had waited for that."""

    killed: Any
    other: Any
    store: Path


@pytest.fixture(scope="module")
def taken_over(
    make_dr_irl: Callable[..., Any], prefect_api: str, tmp_path_factory: pytest.TempPathFactory
) -> TakenOver:
    """One run is frozen in GRPO, another comes to wait for it, and the first is killed."""
    commands, store = make_dr_irl(prefect_api), tmp_path_factory.mktemp("taken-over") / "store"
    arguments = ["run", "--profile", "smoke", "--store", str(store), "--only", "grpo"]
    first = commands.start(*arguments)
    assert first.until(lambda: any((store / "leases" / "grpo").rglob("*.json"))), first.err
    first.send(signal.SIGSTOP)
    second = commands.start(*arguments)
    assert second.until(lambda: "is being built by" in second.err), second.err
    first.send(signal.SIGKILL)
    first.wait()
    assert second.wait() == 0, second.err
    return TakenOver(first, second, store)


@pytest.mark.slow
def test_a_run_that_waits_says_for_whom(taken_over: TakenOver) -> None:
    sentence = rf"grpo/\w+ is being built by process {taken_over.killed.process.pid} on \S+; waiting for it"
    assert re.search(sentence, taken_over.other.err)


@pytest.mark.slow
def test_a_run_that_waits_builds_what_a_killed_one_did_not(taken_over: TakenOver) -> None:
    assert any((taken_over.store / "objects" / "grpo").rglob("manifest.json"))
