"""The cache policy under Prefect: the store decides, Prefect's own results only save a look-up."""

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.testing.utilities import prefect_test_harness

from dr_irl.artifacts import Store, modules
from dr_irl.errors import InterruptedRunError
from dr_irl.profile import load_settings
from tasks import stages
from tasks.orchestration import interruption, limits
from tasks.orchestration.caching import stage_task
from tasks.orchestration.interruption import request_stop
from tasks.orchestration.opening import open_store
from tasks.orchestration.results import result_storage
from tasks.stages import Stage

COUNTING = """
import json
CALLS = []

def make(folder, job):
    CALLS.append(job.variant)
    (folder / "count.json").write_text(json.dumps(len(CALLS)))
"""


@pytest.fixture(scope="module", autouse=True)
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A stage that counts how often it was built; the seed is what shapes it."""
    (tmp_path / "counting_stage.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(tmp_path)
    yield Stage("counted", "counting_stage:make", lambda s, _: {"seed": s.seed})
    sys.modules.pop("counting_stage", None)
    forget_source()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def forget_source() -> None:
    """Let code be read again: in a process of its own nothing would have been read yet."""
    for cached in (modules.source_file, modules.source_text, stages._code, stages.code_of):
        cached.cache_clear()


def run(stage: Stage, store: Store, seed: int = 0, *, rebuild: bool = False) -> State[Any]:
    settings = load_settings("smoke", {"seed": seed})
    states: list[State[Any]] = []

    @flow
    def once() -> None:
        task = stage_task(stage).with_options(result_storage=result_storage(store))
        states.append(task(settings, store.uri, {}, "", rebuild, return_state=True))

    once()
    return states[0]


def count(store: Store, state: State[Any]) -> int:
    return json.loads((store.fetch(store.ref(**state.result())) / "count.json").read_text())


def test_what_was_built_is_cached(stage: Stage, store: Store) -> None:
    assert [run(stage, store).name for _ in range(2)] == ["Completed", "Cached"]


def test_other_settings_are_built(stage: Stage, store: Store) -> None:
    assert [run(stage, store, seed).name for seed in (0, 1)] == ["Completed", "Completed"]


def test_results_are_plain_json_in_the_store(stage: Stage, store: Store) -> None:
    key = run(stage, store).result()
    [kept] = (path for path in Path(store.uri, "results").rglob("*") if path.is_file())
    assert json.loads(json.loads(kept.read_text())["result"]) == key


def test_what_was_made_from_a_file_that_was_replaced_meanwhile_is_not_kept(stage: Stage, store: Store) -> None:
    """Every look at the file finds another: what the stage was named for may be no more what it read."""
    looks: list[int] = []

    def reads(settings: Any, variant: str) -> dict[str, Any]:
        looks.append(len(looks))
        return {"seed": settings.seed, "contents": len(looks) if len(looks) > 2 else 0}  # from the third look on

    state = run(replace(stage, reads=reads), store)
    assert (state.is_failed(), store.refs()) == (True, [])
    assert f"{state.message}".startswith("counted was not kept: contents that it was made from were replaced while")


def test_a_result_whose_artifact_is_gone_is_not_believed(stage: Stage, store: Store) -> None:
    store.remove(store.ref(**run(stage, store).result()))
    again = run(stage, store)
    assert (again.name, count(store, again)) == ("Completed", 2)


def test_a_result_whose_artifact_is_damaged_is_not_believed(stage: Stage, store: Store) -> None:
    Path(store.ref(**run(stage, store).result()).uri, "count.json").write_text("1000")
    assert count(store, run(stage, store)) == 2


def test_without_any_result_the_store_is_believed(stage: Stage, store: Store) -> None:
    run(stage, store)
    shutil.rmtree(Path(store.uri, "results"))  # as after a wiped Prefect database
    again = run(stage, store)
    assert (again.name, count(store, again)) == ("Cached", 1)


def test_what_is_to_be_built_anew_is_built_and_replaced(stage: Stage, store: Store) -> None:
    run(stage, store)
    again = run(stage, store, rebuild=True)
    assert (again.name, count(store, again)) == ("Completed", 2)


def test_a_store_that_was_moved_keeps_its_results(stage: Stage, store: Store, tmp_path: Path) -> None:
    run(stage, store)
    moved = open_store(str(shutil.move(store.uri, tmp_path / "moved")))
    again = run(stage, moved)
    assert (again.name, count(moved, again)) == ("Cached", 1)


def test_changed_code_of_the_stage_is_built(stage: Stage, store: Store, tmp_path: Path) -> None:
    run(stage, store)
    (tmp_path / "counting_stage.py").write_text(COUNTING.replace("len(CALLS)", "-len(CALLS)"))
    forget_source()
    assert run(stage, store).name == "Completed"


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """How a deployed run asks the server for slots; it gets every one."""
    asked: list[dict[str, Any]] = []

    @contextmanager
    def concurrency(limit: str, **options: Any) -> Iterator[None]:
        asked.append({"limit": limit, **options})
        yield

    monkeypatch.setattr(limits, "concurrency", concurrency)
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "a deployment")
    return asked


def test_a_deployed_run_takes_a_slot_to_build(asked_for: list[Any], stage: Stage, store: Store) -> None:
    run(replace(stage, slot="few"), store)
    assert [asked["limit"] for asked in asked_for] == ["few"]


def test_what_the_store_has_takes_no_slot(asked_for: list[Any], stage: Stage, store: Store) -> None:
    run(stage, store)
    shutil.rmtree(Path(store.uri, "results"))  # or Prefect's own result would answer
    run(replace(stage, slot="few"), store)
    assert asked_for == []


def test_a_run_that_is_not_deployed_takes_no_slot(
    asked_for: list[Any], monkeypatch: pytest.MonkeyPatch, stage: Stage, store: Store
) -> None:
    monkeypatch.delenv("PREFECT__RUNTIME__DEPLOYMENT__ID")
    run(replace(stage, slot="few"), store)
    assert asked_for == []


def test_a_server_that_goes_away_does_not_end_the_stage_that_has_a_slot(asked_for: list[Any]) -> None:
    with limits.slot("few"):
        assert asked_for[0]["raise_on_lease_renewal_failure"] is False


def test_a_run_that_waits_for_a_slot_can_be_stopped(monkeypatch: pytest.MonkeyPatch, asked_for: list[Any]) -> None:
    def taken(limit: str, **options: Any) -> None:
        request_stop(signal.SIGTERM)
        raise TimeoutError

    monkeypatch.setattr(limits, "concurrency", taken)
    monkeypatch.setattr(interruption, "_asked_by", [])
    with pytest.raises(InterruptedRunError), limits.slot("few"):
        pytest.fail("it got a slot that was taken")
