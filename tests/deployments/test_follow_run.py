"""How CI follows a run, where the server answers as a test wants: a long log, a server that is away, a deleted run."""

import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Failed, Running

SCRIPT = Path(__file__).parents[2] / "deployments" / "ci" / "follow_run.py"
RUN = uuid4()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("follow_run", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "follow_run", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(module, "url_for", lambda run: "http://there/run")
    monkeypatch.setattr(sys, "argv", ["follow_run.py", str(RUN)])
    yield module


def line(message: str, *, second: int = 0, level: int = logging.INFO, name: str = "dr_irl") -> Any:
    stamp = datetime.now(UTC) + timedelta(seconds=second)
    return SimpleNamespace(id=uuid4(), timestamp=stamp, level=level, message=message, name=name)


@dataclass
class Server:
    """Answers with these states, one after the other, or raises them; the log is all there at once."""

    states: list[Any]
    log: list[Any] = field(default_factory=list)
    page: str = "`s3://b/report.html`\n\nTo open it: `dr-irl report r --store s3://b`"
    api_url: str = "http://there/api"

    def read_flow_run(self, run_id: UUID) -> Any:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, BaseException):
            raise state
        return SimpleNamespace(id=run_id, name="train", state=state)

    def read_logs(self, *, log_filter: Any, limit: int, offset: int, sort: Any) -> list[Any]:
        wanted = [each for each in self.log if each.timestamp >= log_filter.timestamp.after_]
        return sorted(wanted, key=lambda each: each.timestamp)[offset : offset + limit]

    def read_artifacts(self, **asked: Any) -> list[Any]:
        return [SimpleNamespace(data=self.page)]


def followed(script: ModuleType, server: Server, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(script, "get_client", lambda **asked: nullcontext(server))
    return script.main()


@pytest.mark.parametrize(
    ("state", "status"),
    [(Completed(), 0), (Failed(name="GateFailed", message="no"), 3), (Failed(message="no"), 1)],
)
def test_the_status_says_how_the_run_ended(
    state: Any, status: int, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert followed(script, Server([Running(), state]), monkeypatch) == status


def test_every_line_of_a_long_log_is_shown_once(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = [line(f"line {number};") for number in range(450)]
    followed(script, Server([Running(), Running(), Completed()], log), monkeypatch)
    shown = capsys.readouterr().out
    assert [number for number in range(450) if shown.count(f"line {number};") != 1] == []


def test_of_progress_a_line_a_minute_is_shown_and_a_warning_is_marked(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = [line(f"GRPO at {second};", second=second, name="dr_irl.progress") for second in range(0, 130, 10)]
    log.append(line("careful", level=logging.WARNING))
    followed(script, Server([Completed()], log), monkeypatch)
    shown = capsys.readouterr().out
    assert [second for second in range(0, 130, 10) if f"GRPO at {second};" in shown] == [0, 60, 120]
    assert "WARNING careful" in shown


def test_a_server_that_is_away_for_a_while_is_told_once_and_waited_for(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = httpx.ConnectError("refused")
    assert followed(script, Server([Running(), away, away, Completed()]), monkeypatch) == 0
    assert capsys.readouterr().err.splitlines() == ["the server does not answer, and is asked again: refused"]


def test_a_run_that_was_deleted_ends_in_a_sentence(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = ObjectNotFound(http_exc=Exception("404"), help_message="no such run")
    assert followed(script, Server([Running(), gone]), monkeypatch) == 1
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"run {RUN} can be followed no longer")


def test_ctrl_c_says_that_the_run_goes_on(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert followed(script, Server([Running(), KeyboardInterrupt()]), monkeypatch) == 130
    assert "goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("page", "told"),
    [
        (Server.page, ["report: s3://b/report.html", "open:   dr-irl report r --store s3://b"]),
        ("`/store/report.html` on host", ["report: /store/report.html on host", "open:   nothing; the run was not"]),
    ],
)
def test_the_last_lines_say_where_the_report_is_and_what_opens_it(
    page: str,
    told: list[str],
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    followed(script, Server([Completed()], page=page), monkeypatch)
    last = capsys.readouterr().out.splitlines()[-2:]
    assert all(seen.startswith(wanted) for seen, wanted in zip(last, told, strict=True)), last
