"""The job templates of the work pools: what a worker makes of them, without a worker."""

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from prefect.utilities.templating import apply_values, find_placeholders

POOLS = Path(__file__).parents[2] / "deployments" / "work-pools"
KUBERNETES = "1.37"
IMAGE_USER = 1000


def read(kind: str) -> dict[str, Any]:
    return json.loads((POOLS / f"{kind}.json").read_text())


def render(kind: str, **variables: Any) -> dict[str, Any]:
    """Fill in a template as a worker does: its defaults, what a deployment says, and what is left out is gone."""
    template = read(kind)
    described = template["variables"]["properties"]
    defaults = {name: variable["default"] for name, variable in described.items() if "default" in variable}
    worker = {"name": "run", "command": "prefect flow-run execute", "labels": {"run": "1"}, "env": {"A": "1"}}
    return apply_values(template["job_configuration"], {**defaults, **worker, **variables})


def job(**variables: Any) -> dict[str, Any]:
    """Return the Kubernetes job; the worker writes environment and command as lists."""
    manifest = render("kubernetes", **variables)["job_manifest"]
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": name, "value": value} for name, value in container["env"].items()]
    container["args"] = container["args"].split()
    return manifest


def pod(**variables: Any) -> dict[str, Any]:
    return job(**variables)["spec"]["template"]["spec"]


@pytest.mark.parametrize("kind", ["process", "docker", "kubernetes"])
def test_every_variable_is_used_and_every_placeholder_is_a_variable(kind: str) -> None:
    template = read(kind)
    placeholders = {found.name for found in find_placeholders(template["job_configuration"])}
    # A job's environment takes in that of the deployment, with or without a placeholder.
    assert placeholders | {"env"} == set(template["variables"]["properties"])


def test_the_kubernetes_job_is_one_by_the_schema() -> None:
    kubernetes_validate.validate(job(), KUBERNETES, strict=True)


def test_the_kubernetes_job_is_one_by_the_schema_with_every_variable_set() -> None:
    given = job(
        image="registry.example/dr-irl:cuda",
        gpus=2,
        cpu="8",
        memory="64Gi",
        service_account_name="dr-irl",
        node_selector={"gpu": "h100"},
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}],
        models={"name": "models", "persistentVolumeClaim": {"claimName": "dr-irl-models"}},
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
    assert pod(secret="ours")["containers"][0]["envFrom"] == [{"secretRef": {"name": "ours", "optional": True}}]


def test_a_pod_has_shared_memory_for_torch() -> None:
    rendered = pod(shared_memory="4Gi")
    [volume] = [found for found in rendered["volumes"] if found["name"] == "shared-memory"]
    mounts = {mount["name"]: mount["mountPath"] for mount in rendered["containers"][0]["volumeMounts"]}
    assert (volume["emptyDir"], mounts["shared-memory"]) == ({"medium": "Memory", "sizeLimit": "4Gi"}, "/dev/shm")


def test_a_container_reads_its_credentials_from_a_file_of_the_worker() -> None:
    rendered = render("docker", credentials_file="/etc/ours")
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
