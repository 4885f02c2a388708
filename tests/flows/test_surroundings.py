"""Proxies, folders that cannot be written, a server that is down: what commands make of them, or say."""

import http.server
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import pytest

from dr_irl.errors import UserError
from flows.lasting import require_lasting
from flows.prefect_server import require_server
from flows.surroundings import can_be_written, settle_surroundings, spare_loopback

DEAD = "http://127.0.0.1:9"


def dr_irl(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with this environment and no other."""
    given = {"PATH": "", "COLUMNS": "200", "PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(folder)}
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, env=given | environment)


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "all_proxy"])
def test_this_machine_is_never_asked_by_way_of_a_proxy(name: str) -> None:
    environment = {name: DEAD, "no_proxy": "intranet"}
    spare_loopback(environment)
    assert environment["no_proxy"] == environment["NO_PROXY"] == "intranet,localhost,127.0.0.1,::1"


def test_without_a_proxy_nothing_is_set() -> None:
    environment: dict[str, str] = {}
    spare_loopback(environment)
    assert environment == {}


def test_a_wildcard_stays() -> None:
    environment = {"http_proxy": DEAD, "no_proxy": "*"}
    spare_loopback(environment)
    assert environment["no_proxy"] == "*"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment of its own that names no folder, with temporary files in the test's folder."""
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return monkeypatch


def test_a_home_that_can_be_written_is_used(bare: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    assert (settle_surroundings(), os.environ) == ([], before)


def test_where_home_cannot_be_written_another_folder_is_used_and_said(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.environ["HOME"] = "/sys"
    [said] = settle_surroundings()
    assert (
        "the home folder '/sys' cannot be written: what is kept there lies in" in said and "set HOME, or PREF" in said
    )
    assert os.environ["PREFECT_HOME"] == str(tmp_path / f"dr-irl-{os.getuid()}" / "prefect")


@pytest.mark.parametrize("name", ["PREFECT_HOME", "DR_IRL_CACHE"])
def test_a_named_folder_that_cannot_be_written_is_refused(name: str, bare: pytest.MonkeyPatch) -> None:
    os.environ[name] = "/sys/x"
    with pytest.raises(UserError, match=f"{name} is '/sys/x', which cannot be written; set it to a folder that can"):
        settle_surroundings()


def test_a_folder_that_is_not_there_yet_can_be_written_where_its_parent_can(tmp_path: Path) -> None:
    assert (can_be_written(tmp_path / "a" / "b"), can_be_written(Path("/sys/a"))) == (True, False)


def test_a_user_of_no_name_with_no_home_gets_folders(tmp_path: Path) -> None:
    code = "import os; os.setuid(54321); from flows.surroundings import settle_surroundings as s; print(*s())"
    if os.getuid():
        pytest.skip("only root can become another user")
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    tmp_path.chmod(0o777)
    preloaded = "import flows.surroundings; " + code  # this checkout may be closed to other users
    run = subprocess.run([sys.executable, "-c", preloaded], capture_output=True, text=True, env=environment)
    assert (run.returncode, "there is no home folder: what is kept there lies in" in run.stdout) == (0, True), (
        run.stderr
    )


@pytest.fixture
def answering() -> Iterator[Callable[[int, bytes], str]]:
    """Starts a server that answers everything in one way, and returns its address."""
    servers: list[http.server.HTTPServer] = []

    def start(status: int, body: bytes) -> str:
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Answer))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/api"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


OURS = version("prefect")


@pytest.mark.parametrize("found", [OURS, f"{OURS.split('.')[0]}.999.0"])
def test_a_server_of_our_version_or_a_newer_one_is_used(
    found: str, answering: Callable[[int, bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", answering(200, f'"{found}"'.encode()))
    monkeypatch.setenv("http_proxy", DEAD)
    monkeypatch.delenv("no_proxy", raising=False)
    require_server()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b'"2.20.1"', "is of version 2.20.1, and here is .*install the same on both sides"),
        (200, b"<html>", "is no API of a Prefect server: what it answers is no version"),
        (404, b"", "is no API of a Prefect server: it answers with status 404"),
        (401, b"", "refuses to answer .401.; set PREFECT_API_KEY or PREFECT_API_AUTH_STRING"),
    ],
)
def test_a_server_that_cannot_be_used_is_told(
    status: int,
    body: bytes,
    said: str,
    answering: Callable[[int, bytes], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", answering(status, body))
    with pytest.raises(UserError, match=said):
        require_server()


def test_a_server_that_a_profile_names_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "profiles.toml").write_text(f'active = "ours"\n[profiles.ours]\nPREFECT_API_URL = "{DEAD}/api"\n')
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(UserError, match="no Prefect server answers at 'http://127.0.0.1:9/api'"):
        require_server()


@pytest.mark.parametrize("url", [f"{DEAD}/api", "127.0.0.1:4200", "http://user:planted-secret@127.0.0.1:9/api"])
def test_a_server_that_is_down_is_told_before_anything_is_made(url: str, tmp_path: Path) -> None:
    run = dr_irl(tmp_path, "run", "--profile", "smoke", PREFECT_API_URL=url)
    assert (run.returncode, run.stderr.splitlines()[-1].startswith("dr-irl: ")) == (2, True), run.stderr
    assert ("Traceback" in run.stderr, "secret" in run.stderr, list(tmp_path.iterdir())) == (False, False, [])


def test_an_output_that_cannot_be_written_is_told_before_anything_is_made(tmp_path: Path) -> None:
    run = dr_irl(tmp_path, "run", "--profile", "smoke", "--output", "/sys/out")
    assert (run.returncode, run.stderr) == (2, "dr-irl: --output '/sys/out' cannot be written; name another folder\n")


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    run = dr_irl(tmp_path, "run", "--profile", "smoke", "--store", "/sys/store")
    said = run.stderr.splitlines()[-1]
    assert (run.returncode, said.startswith("dr-irl: cannot open the store '/sys/store': ")) == (2, True), run.stderr
    assert "Traceback" not in run.stderr


def test_a_relative_place_in_a_run_of_a_deployment_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    require_lasting("store", "out")
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "1234")
    require_lasting(str(tmp_path), str(tmp_path / "out"))
    require_lasting("s3://bucket/run")
    with pytest.raises(UserError, match="store 'store' is seen from the folder .* which is deleted when it ends; give"):
        require_lasting("store")
    with pytest.raises(UserError, match="output 'out' is seen from the folder"):
        require_lasting(str(tmp_path), "out")
