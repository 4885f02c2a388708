"""The first part of docs/operate.md, as a newcomer would paste it into a shell."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from services import ROOT, SCRIPTS, clean_environment, errors_in, free_port

from dr_irl.profile import load_settings

GUIDE = ROOT / "docs" / "operate.md"
SECONDS = 1000
"""How long the guide may take before it counts as stuck; five minutes on a quiet machine."""
pytestmark = pytest.mark.timeout(1100)


def blocks() -> list[str]:
    """Return the commands of the guide."""
    return re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.CompletedProcess[str]]:
    """What a shell says that ran every block but the installation, in a folder that looks like the clone."""
    folder = tmp_path_factory.mktemp("clone")
    for name in (".venv", "deployments"):
        (folder / name).symlink_to(SCRIPTS.parent if name == ".venv" else ROOT / name)
    _, *given = blocks()
    # The worker says that it is there some seconds after it was started; by hand nobody asks sooner.
    patient = [
        re.sub(r"^(dr-irl doctor .*)$", r"for i in 1 2 3 4 5; do sleep 5; \1 && break; done", block, flags=re.M)
        for block in given
    ]
    script = "set -euo pipefail\n" + "".join(f"echo '== {number}'\n{block}" for number, block in enumerate(patient))
    script = script.replace("4200", str(free_port()))
    environment = clean_environment(PREFECT_HOME=str(folder / "home"))
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            ["bash", "-c", script], cwd=folder, env=environment, stdout=said, stderr=said, start_new_session=True
        )
        try:
            process.wait(SECONDS)
        finally:
            # What a guide that broke off left behind; the worker ends its child, which is one session further, first.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
                time.sleep(20)
                os.killpg(process.pid, signal.SIGKILL)
    yield subprocess.CompletedProcess([], process.returncode, (folder / "said").read_text(), str(folder / "store"))


@pytest.mark.slow
def test_every_command_of_the_guide_works_as_written(shell: subprocess.CompletedProcess[str]) -> None:
    assert shell.returncode == 0, shell.stdout[-6000:]


@pytest.mark.slow
def test_the_doctor_finds_everything_after_the_guide(shell: subprocess.CompletedProcess[str]) -> None:
    assert "FAILED" not in shell.stdout.rpartition("dr-irl doctor")[2]


def said_by(shell: subprocess.CompletedProcess[str], command: str) -> str:
    """Return what the block said that has this command."""
    [number] = [number for number, block in enumerate(blocks()[1:]) if command in block]
    return shell.stdout.split(f"== {number}\n", 1)[1].split(f"== {number + 1}\n", 1)[0]


@pytest.mark.slow
def test_the_schedule_of_the_guide_fires_and_takes_the_finding(shell: subprocess.CompletedProcess[str]) -> None:
    store = Path(shell.stderr)
    assert len(list((store / "accepted").glob("*.jsonl"))) == 1
    assert list((store / "inbox").glob("*.jsonl")) == []
    assert "champion" in said_by(shell, "until dr-irl models")


@pytest.mark.slow
def test_the_retraining_by_hand_has_nothing_to_do(shell: subprocess.CompletedProcess[str]) -> None:
    assert "nothing new in" in said_by(shell, "train-and-wait.sh retrain/retrain")


@pytest.mark.slow
def test_the_refusal_of_the_guide_says_by_how_much(shell: subprocess.CompletedProcess[str]) -> None:
    said = " ".join(said_by(shell, "rehearse-fail").split())
    assert "1 of 27 checks failed: usefulness: perplexity (" in said and "Traceback" not in said


@pytest.mark.slow
def test_the_guide_goes_back_to_the_first_version(shell: subprocess.CompletedProcess[str]) -> None:
    said = said_by(shell, "dr-irl rollback")
    first, second = re.findall(r"^rehearsal +(\S+)", said, re.MULTILINE)[:2]
    assert f"rehearsal {first} is the champion, instead of {second}" in said


@pytest.mark.slow
def test_the_server_of_the_guide_logs_no_error(shell: subprocess.CompletedProcess[str]) -> None:
    log = (Path(shell.stderr).parent / "server.log").read_text()
    # A busy machine meets this with SQLite, as the guide says; the request is made again.
    assert errors_in(log, passing="database is locked") == []


@pytest.mark.slow
def test_worker_and_server_of_the_guide_end_when_they_are_asked_to(shell: subprocess.CompletedProcess[str]) -> None:
    left = [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["environ"] or {}).get("PREFECT_HOME", "").startswith(str(Path(shell.stderr).parent))
    ]
    assert left == []


def test_the_settings_in_the_guide_are_settings(tmp_path: Path) -> None:
    snippets = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert snippets
    for snippet in snippets:
        (profile := tmp_path / "ours.yaml").write_text(
            f"extends: smoke\n{snippet}" if "extends" not in snippet else snippet
        )
        assert load_settings(str(profile)).profile == "ours"


def test_the_guide_begins_with_the_installation_that_ci_does() -> None:
    assert blocks()[0] == "make install\n"
    assert "make install" in (ROOT / ".ci" / "run").read_text()
