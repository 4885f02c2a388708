"""The Prefect server of one run: it talks to that run alone."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.commands.temporary_server import TemporaryServer

pytestmark = pytest.mark.slow

LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporaryServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("home")))
        (started := TemporaryServer()).wait()
        yield started
        end(started)


def end(server: TemporaryServer) -> None:
    """End it as the end of the process that started it would."""
    assert server._process.stdin is not None
    server._process.stdin.close()
    server._process.wait(60)


def status(server: TemporaryServer, path: str, **headers: str) -> int:
    request = urllib.request.Request(f"{server.api}/{path}", b"{}", {"Content-Type": "application/json", **headers})
    try:
        with LOCAL.open(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("path", ["flows/filter", "flow_runs/filter", "variables/", "work_pools/"])
def test_a_stranger_is_turned_away(server: TemporaryServer, path: str) -> None:
    assert (status(server, path), status(server, path, Authorization="Basic Og==")) == (401, 401)


def test_a_page_of_another_site_may_not_read_what_it_says(server: TemporaryServer) -> None:
    request = urllib.request.Request(f"{server.api}/health", headers={"Origin": "https://other.example"})
    with LOCAL.open(request, timeout=30) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] is None


def test_each_server_has_a_password_of_its_own(server: TemporaryServer) -> None:
    other = TemporaryServer()
    end(other)
    assert other._login != server._login


def test_the_process_that_started_it_is_let_in(server: TemporaryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"PREFECT_API_KEY": "of another server"})
    server.use()
    assert "PREFECT_API_KEY" not in os.environ
    read = {setting: os.environ[setting.name] for setting in (PREFECT_API_URL, PREFECT_API_AUTH_STRING)}
    with temporary_settings(read), get_client(sync_client=True) as client:
        assert client.read_flows() == []
