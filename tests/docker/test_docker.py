"""The image and the compose file, as far as they can be judged without a container engine."""

import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = ROOT / "docker" / "compose.yaml"


SCRIPTS = Path(sysconfig.get_path("scripts"))


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def test_the_dockerfile_has_no_lint_findings() -> None:
    found = subprocess.run([SCRIPTS / "hadolint", "--no-color", DOCKERFILE], capture_output=True, text=True)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_the_compose_file_is_one_by_the_schema_of_the_specification() -> None:
    command = [SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_there_are_targets_for_cpu_and_cuda() -> None:
    assert {"cpu", "cuda"} <= set(re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE.read_text(), re.MULTILINE))


def test_the_base_image_has_an_exact_tag() -> None:
    bases = re.findall(r"^FROM (\S+:\S+) AS", DOCKERFILE.read_text(), re.MULTILINE)
    assert bases and all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)


def test_the_image_ends_as_a_user_by_number_that_is_not_root() -> None:
    users = re.findall(r"^USER (.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert users == ["1000"]


def test_a_worker_can_give_the_image_its_whole_command() -> None:
    assert "ENTRYPOINT" not in DOCKERFILE.read_text()


def test_every_service_that_stays_is_asked_whether_it_is_well(services: dict[str, dict[str, Any]]) -> None:
    staying = {name for name, service in services.items() if service.get("restart") == "unless-stopped"}
    assert staying == {"postgres", "s3", "server", "worker"}
    assert [name for name in staying if "test" not in services[name]["healthcheck"]] == []


def test_every_volume_that_is_mounted_is_declared(services: dict[str, dict[str, Any]]) -> None:
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert mounted == set(yaml.safe_load(COMPOSE.read_text())["volumes"])


def test_everything_the_image_copies_is_let_through_by_dockerignore() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    allowed = {line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    assert {source for line in copied for source in line.split()} == allowed


def test_nothing_listens_beyond_the_machine(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not str(port).startswith("127.0.0.1:")] == []


def test_passwords_are_required_from_the_environment(services: dict[str, dict[str, Any]]) -> None:
    secrets = {
        f"{name}.{variable}": value
        for name, service in services.items()
        for variable, value in service.get("environment", {}).items()
        if re.search("PASSWORD|SECRET|KEY", variable)
    }
    assert secrets
    assert {name: value for name, value in secrets.items() if not re.fullmatch(r"\$\{\w+:\?.+\}", value)} == {}


def test_every_image_has_an_exact_tag(services: dict[str, dict[str, Any]]) -> None:
    ours = "dr-irl:"
    foreign = {service["image"] for service in services.values() if not service["image"].startswith(ours)}
    assert foreign
    assert {image for image in foreign if not re.search(r":\D*\d+[.-]\d+", image)} == set()


def test_every_service_that_is_waited_for_exists(services: dict[str, dict[str, Any]]) -> None:
    awaited = {name for service in services.values() for name in service.get("depends_on", {})}
    assert awaited <= set(services)
