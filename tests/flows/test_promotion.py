"""Promotion in a flow: the gate and the publication stand on the run's page, whichever way it ends."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from finished_run import finished_run
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.testing.utilities import prefect_test_harness

from dr_irl.artifacts import Store
from dr_irl.categories import HARM_CATEGORIES
from dr_irl.errors import SettingsError
from dr_irl.profile import load_settings
from dr_irl.promotion.registry import Registry
from flows.promotion import against_champion, promote_run
from flows.record import RunRecord
from tasks.orchestration.failures import ending_in_a_sentence
from tasks.orchestration.opening import open_store

FIRST = "20261130-030001-00000001"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def publish_first(store: Store) -> str:
    (folder := Path(store.uri) / "files" / "adapter").mkdir(parents=True)
    (folder / "weights").write_text("0")
    Registry(store).publish("safe", FIRST, folder.parent, {})
    Registry(store).promote("safe", FIRST, replaces=None, run_id="r")
    return f"{store.uri}/models/safe/{FIRST}/adapter"


def test_a_run_evaluates_the_champion_that_it_is_to_replace(store: Store) -> None:
    adapter = publish_first(store)
    assert against_champion(load_settings("smoke"), store, "safe").models.champion == adapter


def test_before_there_is_a_champion_settings_stay_as_they_are(store: Store) -> None:
    settings = load_settings("smoke")
    assert against_champion(settings, store, "safe") == settings


def test_another_champion_in_the_settings_is_refused_before_the_run(store: Store) -> None:
    publish_first(store)
    with pytest.raises(SettingsError, match="models.champion is 'other', but the result is to replace"):
        against_champion(load_settings("smoke", {"models.champion": "other"}), store, "safe")


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


@flow
@ending_in_a_sentence
def promotion(record: RunRecord, store: str) -> str:
    return promote_run(record, open_store(store), "safe").version


def refuse(store: Store) -> UUID:
    """Promote a run, then one that refuses less in every category; gives the id of the second's flow run."""
    promotion(finished_run(store), store.uri)
    champion = Registry(store).adapter_uri("safe")
    state = promotion(finished_run(store, 2, refused=8, champion=champion), store.uri, return_state=True)
    assert state.state_details.flow_run_id is not None
    return state.state_details.flow_run_id


def found_by(flow_run: UUID) -> FlowRunFilter:
    return FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))


@pytest.mark.slow
def test_gate_and_publication_are_on_the_page_of_the_run(store: Store, prefect: None) -> None:
    passed = promotion(finished_run(store), store.uri, return_state=True).state_details.flow_run_id
    assert passed is not None
    with get_client(sync_client=True) as client:
        tasks = sorted(str(run.name) for run in client.read_task_runs(flow_run_filter=found_by(passed)))
        shown = client.read_artifacts(flow_run_filter=found_by(passed))
    assert tasks == ["gate safe", "publish safe"]
    assert sorted(artifact.key for artifact in shown if artifact.key) == ["promotion", "promotion-gate"]


@pytest.mark.slow
def test_a_failed_gate_names_every_check_that_failed_in_its_state(store: Store, prefect: None) -> None:
    refused = refuse(store)
    with get_client(sync_client=True) as client:
        [gate] = client.read_task_runs(flow_run_filter=found_by(refused))
        run = client.read_flow_run(refused)
    assert gate.state and run.state and gate.state.message
    assert (gate.name, gate.state.name, run.state.name) == ("gate safe", "GateFailed", "GateFailed")
    assert gate.state.message == run.state.message
    assert gate.state.message.startswith(f"the result may not replace champion {FIRST}: 8 of 27 checks failed: ")
    assert [category for category in HARM_CATEGORIES if category not in gate.state.message] == []


@pytest.mark.slow
def test_a_failed_gate_shows_what_failed_first(store: Store, prefect: None) -> None:
    refused = refuse(store)
    with get_client(sync_client=True) as client:
        [table] = [table for table in client.read_artifacts(flow_run_filter=found_by(refused)) if table.key]
    assert [row["result"] for row in json.loads(str(table.data))] == ["FAILED"] * 8 + ["passed"] * 19


@pytest.mark.slow
def test_a_failed_gate_logs_by_how_much(store: Store, prefect: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "flows.promotion"):
        refuse(store)
    told = [record.getMessage() for record in caplog.records if record.name == "flows.promotion"]
    [insult] = [line for line in told if "safety: insult" in line]
    assert insult.startswith(
        "gate safe: safety: insult: refuses 8 of 20, the champion 10 (0 gained, 2 lost, p = 0.25);"
    )
