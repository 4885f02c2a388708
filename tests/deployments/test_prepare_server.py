"""What bootstrap makes on a server, and leaves alone when it is run again; on a real server of this test's own."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate, WorkPoolUpdate
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.exceptions import PrefectHTTPStatusError
from prefect.testing.utilities import prefect_test_harness

from dr_irl.errors import DataError, GateError, InterruptedRunError, StageTimeoutError
from tasks.orchestration.failures import state_of

FOLDER = Path(__file__).parents[2] / "deployments"
HEARTBEAT_LEAST_SECONDS = 30


@pytest.fixture(scope="module")
def client() -> Iterator[SyncPrefectClient]:
    with prefect_test_harness(server_startup_timeout=180), get_client(sync_client=True) as started:
        yield started


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_server", FOLDER / "prepare_server.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def automations() -> list[dict[str, Any]]:
    return yaml.safe_load((FOLDER / "automations.yaml").read_text())


@pytest.mark.slow
def test_a_pool_that_somebody_paused_stays_paused(client: SyncPrefectClient, prepare: ModuleType) -> None:
    prepare.install_pool(client, "paused", "process")
    client.update_work_pool("paused", WorkPoolUpdate(is_paused=True))
    prepare.install_pool(client, "paused", "process")
    assert client.read_work_pool("paused").is_paused


@pytest.mark.slow
def test_a_pool_has_our_template_again_after_a_change(client: SyncPrefectClient, prepare: ModuleType) -> None:
    prepare.install_pool(client, "changed", "kubernetes")
    client.update_work_pool("changed", WorkPoolUpdate(base_job_template={}))
    prepare.install_pool(client, "changed", "kubernetes")
    assert "gpus" in client.read_work_pool("changed").base_job_template["variables"]["properties"]


def container(template: dict[str, Any]) -> dict[str, Any]:
    return template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"][0]


def test_an_image_given_is_that_of_the_pool(prepare: ModuleType) -> None:
    template = prepare.read_template("kubernetes", {"DR_IRL_IMAGE": "registry.example/dr-irl:1"})
    assert (container(template)["image"], "operator" in template) == ("registry.example/dr-irl:1", False)


def test_what_is_no_text_is_given_as_json(prepare: ModuleType) -> None:
    template = prepare.read_template("docker", {"DR_IRL_NETWORKS": '["training"]'})
    assert template["job_configuration"]["networks"] == ["training"]
    with pytest.raises(SystemExit, match="DR_IRL_NETWORKS is 'training', which is no JSON; allowed is Docker networks"):
        prepare.read_template("docker", {"DR_IRL_NETWORKS": "training"})


FORBIDDEN: list[tuple[str, dict[str, Any]]] = [
    ("process", {"command": "sh -c 'id > /tmp/who'"}),
    ("process", {"env": {"PYTHONPATH": "/tmp"}}),
    ("process", {"working_dir": "/tmp"}),
    ("docker", {"image": "other"}),
    ("docker", {"credentials_file": "/etc/shadow"}),
    ("docker", {"volumes": ["/:/host"]}),
    ("kubernetes", {"command": "sh"}),
    ("kubernetes", {"service_account_name": "cluster-admin"}),
    ("kubernetes", {"secret": "of-others"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "given"), FORBIDDEN)
def test_who_starts_a_run_chooses_no_command_no_files_and_no_secrets(
    client: SyncPrefectClient, prepare: ModuleType, kind: str, given: dict[str, Any]
) -> None:
    prepare.install_pool(client, f"closed-{kind}", kind)
    flow_id = client.create_flow_from_name("train")
    deployed = client.create_deployment(
        flow_id, f"deployed-{kind}", entrypoint="flows.pipeline.dr_irl_pipeline", work_pool_name=f"closed-{kind}"
    )
    assert client.create_flow_run_from_deployment(deployed, job_variables={"stream_output": False}).id
    with pytest.raises(PrefectHTTPStatusError, match="422|409"):
        client.create_flow_run_from_deployment(deployed, job_variables=given)


@pytest.mark.slow
def test_a_limit_that_somebody_set_stays(client: SyncPrefectClient, prepare: ModuleType) -> None:
    prepare.install_limit(client, None)
    client.update_global_concurrency_limit(prepare.GRPO_LIMIT, GlobalConcurrencyLimitUpdate(limit=4))
    prepare.install_limit(client, None)
    assert client.read_global_concurrency_limit_by_name(prepare.GRPO_LIMIT).limit == 4


@pytest.mark.slow
def test_a_limit_that_is_asked_for_is_set(client: SyncPrefectClient, prepare: ModuleType) -> None:
    prepare.install_limit(client, "1")
    prepare.install_limit(client, "3")
    assert client.read_global_concurrency_limit_by_name(prepare.GRPO_LIMIT).limit == 3


@pytest.mark.slow
def test_an_automation_is_updated_in_place(client: SyncPrefectClient, prepare: ModuleType) -> None:
    automation = AutomationCore.model_validate(automations()[0])
    prepare.install_automation(client, automation)
    [first] = client.read_automations_by_name(automation.name)
    prepare.install_automation(client, automation.model_copy(update={"description": "other words"}))
    [second] = client.read_automations_by_name(automation.name)
    assert (second.id, second.description) == (first.id, "other words")


def test_a_run_may_miss_three_heartbeats_and_is_ended_within_minutes() -> None:
    silent = AutomationCore.model_validate(automations()[0]).trigger
    assert isinstance(silent, EventTrigger)
    beat = int(_deployed_environment()["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert beat >= HEARTBEAT_LEAST_SECONDS
    assert 3 * beat < silent.within.total_seconds() <= 300


def test_automations_know_every_name_under_which_a_run_of_ours_ends() -> None:
    errors = [GateError(""), StageTimeoutError(""), DataError(""), InterruptedRunError("")]
    named = {f"prefect.flow-run.{state.name}" for error in errors if (state := state_of(error))}
    assert len(named) == len(errors)
    assert [
        automation["name"] for automation in automations() if not named <= set(automation["trigger"]["expect"])
    ] == []


def test_automations_touch_no_runs_of_others() -> None:
    matched = [automation["trigger"]["match_related"]["prefect.resource.id"] for automation in automations()]
    deployed = yaml.safe_load((FOLDER / "prefect.yaml").read_text())["deployments"]
    assert set(matched) == {"prefect.tag.dr-irl"}
    assert all("dr-irl" in deployment["tags"] for deployment in deployed)


def _deployed_environment() -> dict[str, str]:
    found = [json.loads(path.read_text())["job_configuration"]["env"] for path in (FOLDER / "work-pools").iterdir()]
    shared = set(found[0].items()).intersection(*(each.items() for each in found))
    return dict(shared)
