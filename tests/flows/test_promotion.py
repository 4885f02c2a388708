"""Promotion in a flow: the gate and the publication stand on the run's page, whichever way it ends."""

from pathlib import Path

import pytest
from finished_run import finished_run
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from dr_irl.artifacts import Store
from dr_irl.errors import GateError, SettingsError
from dr_irl.profile import load_settings
from dr_irl.promotion.registry import Registry
from flows.promotion import against_champion, promote_run
from flows.record import RunRecord
from tasks.opening import open_store

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


@pytest.mark.slow
def test_gate_and_publication_are_on_the_page_of_the_run(store: Store) -> None:
    @flow
    def promotion(record: RunRecord) -> str:
        return promote_run(record, store, "safe").version

    with prefect_test_harness(server_startup_timeout=180):
        assert promotion(finished_run(store)) == FIRST
        champion = Registry(store).adapter_uri("safe")
        with pytest.raises(GateError, match="may not replace champion"):
            promotion(finished_run(store, 2, refused=3, champion=champion))
        with get_client(sync_client=True) as client:
            tasks = sorted((run.name, str(run.state_name)) for run in client.read_task_runs())
            shown = sorted(str(artifact.key) for artifact in client.read_artifacts() if artifact.key)
    assert tasks == [("gate safe", "Completed"), ("gate safe", "Failed"), ("publish safe", "Completed")]
    assert shown == ["promotion", "promotion-gate", "promotion-gate"]
