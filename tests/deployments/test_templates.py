"""The job templates of the work pools: what a worker makes of them, without a worker."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes_validate
import pytest
from prefect.utilities.templating import apply_values, find_placeholders

POOLS = Path(__file__).parents[2] / "deployments" / "work-pools"
KUBERNETES = "1.37"
IMAGE_USER = 1000


def read(kind: str) -> dict[str, Any]:
    return json.loads((POOLS / f"{kind}.json").read_text())


def prepare_server() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_server", POOLS.parent / "prepare_server.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def render(kind: str, operator: Mapping[str, str] | None = None, **variables: Any) -> dict[str, Any]:
    """Fill in a template as a worker does: its defaults, what a deployment says, and what is left out is gone."""
    template = prepare_server().read_template(kind, operator or {})
    described = template["variables"]["properties"]
    assert set(variables) <= set(described)
    defaults = {name: variable["default"] for name, variable in described.items() if "default" in variable}
    worker = {"name": "run", "labels": {"run": "1"}}
    return apply_values(template["job_configuration"], {**defaults, **worker, **variables})


def job(operator: Mapping[str, str] | None = None, **variables: Any) -> dict[str, Any]:
    """Return the Kubernetes job; the worker adds environment and command as lists."""
    rendered = render("kubernetes", operator, **variables)
    manifest = rendered["job_manifest"]
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": name, "value": value} for name, value in rendered["env"].items()]
    container["args"] = ["prefect", "flow-run", "execute"]
    return manifest


def pod(operator: Mapping[str, str] | None = None, **variables: Any) -> dict[str, Any]:
    return job(operator, **variables)["spec"]["template"]["spec"]


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes"])
def test_every_variable_is_used_and_every_placeholder_is_a_variable(kind: str) -> None:
    template = read(kind)
    placeholders = {found.name for found in find_placeholders(template["job_configuration"])}
    assert placeholders == set(template["variables"]["properties"]) | set(template.get("operator", {}))


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes"])
def test_bootstrap_settles_what_the_operator_decides(kind: str) -> None:
    template = prepare_server().read_template(kind, {})
    placeholders = {found.name for found in find_placeholders(template["job_configuration"])}
    assert placeholders == set(template["variables"]["properties"])
    # Prefect merges a caller's `env` into a job's, with or without a placeholder, unless the schema refuses it.
    assert template["variables"]["additionalProperties"] is False


def test_the_kubernetes_job_is_one_by_the_schema() -> None:
    kubernetes_validate.validate(job(), KUBERNETES, strict=True)


def test_the_kubernetes_job_is_one_by_the_schema_with_every_variable_set() -> None:
    given = job(
        {
            "DR_IRL_IMAGE": "registry.example/dr-irl:cuda",
            "DR_IRL_SERVICE_ACCOUNT_NAME": "dr-irl",
            "DR_IRL_MODELS": '{"name": "models", "persistentVolumeClaim": {"claimName": "dr-irl-models"}}',
        },
        gpus=2,
        cpu="8",
        memory="64Gi",
        node_selector={"gpu": "h100"},
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}],
    )
    kubernetes_validate.validate(given, KUBERNETES, strict=True)


def test_the_schema_refuses_a_field_that_is_none() -> None:
    """The check of the two tests above, checked: Prefect's own template has this mistake."""
    wrong = job()
    wrong["spec"]["template"]["spec"]["completions"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="completions"):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_gpus_reach_the_pod_as_a_limit() -> None:
    assert pod(gpus=2)["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2


def test_a_pod_runs_as_the_user_of_the_image() -> None:
    assert pod()["securityContext"].items() >= {"runAsNonRoot": True, "runAsUser": IMAGE_USER}.items()


def test_a_pod_has_minutes_to_keep_a_checkpoint() -> None:
    assert pod()["terminationGracePeriodSeconds"] >= 120


def test_a_failed_pod_is_not_started_again_behind_the_back_of_prefect() -> None:
    assert (job()["spec"]["backoffLimit"], pod()["restartPolicy"]) == (0, "Never")


def test_a_pod_takes_its_secrets_from_a_secret_by_name() -> None:
    assert pod({"DR_IRL_SECRET": "ours"})["containers"][0]["envFrom"] == [
        {"secretRef": {"name": "ours", "optional": True}}
    ]


def test_a_pod_has_shared_memory_for_torch() -> None:
    rendered = pod(shared_memory="4Gi")
    [volume] = [found for found in rendered["volumes"] if found["name"] == "shared-memory"]
    mounts = {mount["name"]: mount["mountPath"] for mount in rendered["containers"][0]["volumeMounts"]}
    assert (volume["emptyDir"], mounts["shared-memory"]) == ({"medium": "Memory", "sizeLimit": "4Gi"}, "/dev/shm")


def test_a_container_reads_its_credentials_from_a_file_of_the_worker() -> None:
    rendered = render("docker", {"DR_IRL_CREDENTIALS_FILE": "/etc/ours"})
    [mounted] = [volume for volume in rendered["volumes"] if volume.startswith("/etc/ours:")]
    assert mounted == f"/etc/ours:{rendered['env']['AWS_SHARED_CREDENTIALS_FILE']}:ro"


def test_a_container_has_what_was_asked_for() -> None:
    gpus = [{"count": 1, "capabilities": [["gpu"]]}]
    rendered = render("docker", gpus=gpus, memory="16g", cpus="0-7", shared_memory="4g")
    created = rendered["container_create_kwargs"]
    seen = (created["device_requests"], rendered["mem_limit"], created["cpuset_cpus"], created["shm_size"])
    assert seen == (gpus, "16g", "0-7", "4g")


def test_a_container_has_no_rights_and_is_not_root() -> None:
    created = render("docker")["container_create_kwargs"]
    assert (created["user"], created["cap_drop"]) == (str(IMAGE_USER), ["ALL"])


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes"])
def test_no_template_has_a_variable_for_the_value_of_a_secret(kind: str) -> None:
    told = read(kind)["variables"]["properties"].values()
    assert [variable for variable in told if variable.get("format") == "password" or variable.get("writeOnly")] == []
