"""The commands of README, as they stand there, on a finished smoke run: the profile and the bucket are this test's."""

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "README.md"


def commands() -> list[str]:
    """Return every `dr-irl` command of README's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.partition(" #")[0].removeprefix(".venv/bin/").strip() for line in lines if "dr-irl " in line]


@pytest.fixture(scope="module")
def environment(
    tmp_path_factory: pytest.TempPathFactory, moto: dict[str, str], make_dr_irl: Callable[..., Any], prefect_api: str
) -> Mapping[str, str]:
    """Where the commands find a finished run."""
    given = moto | {"DR_IRL_STORE": str(tmp_path_factory.mktemp("readme") / "store")}
    made = make_dr_irl(prefect_api).run("run", "--profile", "smoke", environment=given)
    assert made.process.returncode == 0, made.err
    return given


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_ends_well(
    command: str, environment: Mapping[str, str], make_dr_irl: Callable[..., Any], prefect_api: str, tmp_path: Path
) -> None:
    _, verb, *words = shlex.split(command)
    if verb in ("run", "plan") and "--dry-run" not in words:
        words += ["--profile", "smoke"]  # in place of what stands before it, which would take minutes
    (answers := tmp_path / "answers.csv").write_text("prompt,response,category\nHello?,I will not.,insult\n")
    words = [str(answers) if word == answers.name else word for word in words]
    ended = make_dr_irl(prefect_api).run(verb, *words, environment=environment)
    assert ended.process.returncode == 0, ended.err


def test_the_readme_has_commands() -> None:
    assert len(commands()) > 5
