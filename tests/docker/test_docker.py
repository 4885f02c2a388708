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


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def test_the_dockerfile_has_no_lint_findings() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    found = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


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
