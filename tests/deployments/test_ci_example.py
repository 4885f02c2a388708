"""The example for CI, as far as it can be judged without GitHub; the script in it is run by test_train.py."""

import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml
from services import clean_environment

from dr_irl.profile import PROFILES

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
WORKFLOW = DEPLOYMENTS / "ci" / "retrain.yml"
SCRIPTS = Path(sysconfig.get_path("scripts"))


@pytest.fixture(scope="module")
def steps() -> list[dict[str, Any]]:
    return yaml.safe_load(WORKFLOW.read_text())["jobs"]["align"]["steps"]


def test_the_workflow_is_one_by_the_schema() -> None:
    command = [SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", WORKFLOW]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_shell_scripts_have_no_lint_findings() -> None:
    scripts = sorted(DEPLOYMENTS.rglob("*.sh"))
    assert scripts
    found = subprocess.run([SCRIPTS / "shellcheck", *scripts], capture_output=True, text=True)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_without_a_server_nothing_is_started_and_a_sentence_says_so(tmp_path: Path) -> None:
    given = clean_environment(PREFECT_HOME=str(tmp_path), PREFECT_API_URL="http://127.0.0.1:9/api")
    script = DEPLOYMENTS / "ci" / "train-and-wait.sh"
    said = subprocess.run([script, "train/train"], env=given, capture_output=True, text=True)
    [line] = said.stderr.splitlines()
    assert (said.returncode, said.stdout) == (2, "")
    assert line.startswith("no Prefect server answers at http://127.0.0.1:9/api")


def test_what_the_workflow_runs_is_in_the_repository(steps: list[dict[str, Any]]) -> None:
    scripts = [word for step in steps for word in step.get("run", "").split() if word.endswith(".sh")]
    assert scripts == ["deployments/ci/train-and-wait.sh"]
    assert (DEPLOYMENTS.parent / scripts[0]).stat().st_mode & 0o111


def test_the_workflow_offers_every_shipped_profile() -> None:
    triggers = yaml.safe_load(WORKFLOW.read_text())[True]  # YAML 1.1 reads `on` as true
    assert sorted(triggers["workflow_dispatch"]["inputs"]["profile"]["options"]) == sorted(PROFILES)


def test_no_input_is_pasted_into_a_command(steps: list[dict[str, Any]]) -> None:
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []


def test_the_workflow_may_only_read_the_repository() -> None:
    assert yaml.safe_load(WORKFLOW.read_text())["permissions"] == {"contents": "read"}
