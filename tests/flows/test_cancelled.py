"""What a server's page shows of a run that SIGTERM or Ctrl-C ended, whatever the run was at."""

import re
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Ask = Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]
SENTENCE = "; finished stages and the last checkpoint are in the store, the same command goes on from there"
WORDS = {signal.SIGTERM: "stopped by SIGTERM", signal.SIGINT: "interrupted"}
LONG = ["run", "--profile", "smoke", "--set", "grpo.steps=200", "--set", "grpo.checkpoint_every=5", "--store"]
MOMENTS = [("Pending", 0.0), ("Pending", 0.5), ("Running", 0.0), ("Running", 0.5), ("Running", 2.0)]
"""Seconds after a run was first seen in a state or a later one: before its function, in its imports, between stages."""


@pytest.fixture(scope="module")
def commands(make_dr_irl: Callable[..., Any], prefect_api: str) -> Any:
    return make_dr_irl(prefect_api)


@dataclass
class Page:
    """The page of the run that a command started."""

    ask: Ask
    before: set[str]

    @classmethod
    def of_next_run(cls, ask: Ask) -> "Page":
        """Remember which runs there are."""
        return cls(ask, {run["id"] for run in ask("flow_runs/filter", {"limit": 200})})

    def run(self) -> dict[str, Any] | None:
        """Return the run, once it is there."""
        body = {"limit": 1, "flow_runs": {"id": {"not_any_": sorted(self.before)}}}
        return next((run for run in self.ask("flow_runs/filter", body)), None)

    def has_come_to(self, state: str) -> bool:
        """Tell whether the run is there, and pending no more unless that is what is asked for."""
        run = self.run()
        return run is not None and (state == "Pending" or run["state_name"] != "Pending")

    def log(self) -> list[dict[str, Any]]:
        """Return its lines; the process has sent them when it ends."""
        run = self.run()
        assert run is not None
        body = {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "sort": "TIMESTAMP_ASC", "limit": 200}
        return self.ask("logs/filter", body)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize(("state", "seconds"), MOMENTS)
def test_a_run_that_a_signal_ends_is_cancelled_at_any_moment(
    state: str, seconds: float, number: signal.Signals, commands: Any, ask_prefect: Ask, tmp_path: Path
) -> None:
    page = Page.of_next_run(ask_prefect)
    run = commands.start(*LONG, str(tmp_path / "store"))
    assert run.until(lambda: page.has_come_to(state)), run.err
    time.sleep(seconds)
    run.send(number, group=number == signal.SIGINT)
    status, seen = run.wait(), page.run()
    assert seen is not None
    assert (status, seen["state_name"], seen["state"]["message"]) == (
        128 + number,
        "Cancelled",
        WORDS[number] + SENTENCE,
    )
    assert run.sentences() == [f"dr-irl: {WORDS[number]}{SENTENCE}"]


@pytest.fixture(scope="module")
def log(commands: Any, ask_prefect: Ask, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The log of a run that was stopped in the middle of GRPO, after a first one had built what comes before."""
    store = tmp_path_factory.mktemp("store")
    for begun in (lambda run: list(store.glob("checkpoints/grpo/*")), lambda run: "going on from step" in run.err):
        page = Page.of_next_run(ask_prefect)
        run = commands.start(*LONG, str(store))
        assert run.until(lambda run=run, begun=begun: bool(begun(run))), run.err
        run.send(signal.SIGTERM)
        assert run.wait() == 128 + signal.SIGTERM, run.err
    return page.log()


def test_the_log_of_a_cancelled_run_ends_in_a_sentence(log: list[dict[str, Any]]) -> None:
    assert (log[-1]["message"], log[-1]["level"]) == (f"the run was cancelled: stopped by SIGTERM{SENTENCE}", 20)


def test_the_log_names_the_stage_that_was_cancelled(log: list[dict[str, Any]]) -> None:
    assert f"grpo was cancelled: stopped by SIGTERM{SENTENCE}" in [line["message"] for line in log]


def test_the_log_names_each_stage_that_was_in_the_store(log: list[dict[str, Any]]) -> None:
    found = [match[1] for line in log if (match := re.match(r"(.+) was in the store already", line["message"]))]
    assert {"sources", "balance", "reward insult", "panel"} <= set(found)


def test_the_log_has_no_state_of_prefects(log: list[dict[str, Any]]) -> None:
    told = [line["message"] for line in log if re.search(r"Finished in state|NotReady|\w+\(.*\)$", line["message"])]
    assert told == []
