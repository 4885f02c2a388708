"""`dr-irl store gc --delete --min-age 0s`, over and over, beside runs: it takes nothing that one of them needs."""

import json
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import pytest

from dr_irl.artifacts import Store

pytestmark = pytest.mark.timeout(1800)

OFTEN = {"grpo.steps": 60, "grpo.checkpoint_every": 5}
SETTINGS = [f"--set={name}={value}" for name, value in OFTEN.items()]


@dataclass
class Clearing:
    """Clears a store up until it is told to stop."""

    gc: Callable[[], Any]
    over: Event = field(default_factory=Event)
    done: list[Any] = field(default_factory=list)

    def __enter__(self) -> "Clearing":
        self.thread = Thread(target=self._clear_up)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _clear_up(self) -> None:
        while not self.over.is_set():
            self.done.append(self.gc())


@dataclass(frozen=True)
class Site:
    """A store and what its commands need."""

    commands: Any
    others: Any
    """Commands beside those."""
    environment: Mapping[str, str]
    uri: str

    def start(self, *arguments: str) -> Any:
        return self.commands.start(*arguments, "--store", self.uri, environment=self.environment)

    def run(self, *arguments: str) -> Any:
        return self.commands.run(*arguments, "--store", self.uri, environment=self.environment)


@pytest.fixture(params=["folder", "moto"])
def site(
    request: pytest.FixtureRequest,
    make_dr_irl: Callable[..., Any],
    prefect_api: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    folder = tmp_path_factory.mktemp("clearing")
    environment = {"DR_IRL_CACHE": str(folder / "cache")}
    if request.param == "moto":
        environment |= request.getfixturevalue("moto")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Site(make_dr_irl(prefect_api), make_dr_irl(), environment, "s3://bucket/clearing")
    return Site(make_dr_irl(prefect_api), make_dr_irl(), environment, str(folder / "store"))


@pytest.mark.slow
def test_nothing_that_runs_promotions_or_resumes_need_is_cleared_up(site: Site) -> None:
    runs = [site.start("run", "--profile", "rehearse-pass", *SETTINGS, "--promote", "safe")]
    gc = ["store", "gc", "--min-age", "0s", "--delete", "--store", site.uri]
    with Clearing(lambda: site.others.run(*gc, environment=site.environment)) as clearing:
        killed = site.start("run", "--profile", "smoke", "--set=grpo.learning_rate=2e-3", *SETTINGS)
        store = Store(site.uri, read_only=True)
        assert killed.until(lambda: bool(store.backend.files("checkpoints/grpo"))), killed.err
        killed.send(signal.SIGKILL, group=True)
        runs.append(site.run("run", "--profile", "smoke", "--set=grpo.learning_rate=2e-3", *SETTINGS))
        runs.append(site.run("promote", "safe", "--dry-run"))
        statuses = [run.wait() for run in runs]
    assert statuses[:2] == [0, 0], [run.err for run in runs]
    assert "Traceback" not in runs[2].err and statuses[2] in (0, 3)
    assert len(clearing.done) > 5 and {gc.wait() for gc in clearing.done} == {0}, clearing.done[-1].err
    verified = site.run("store", "verify")
    assert (verified.wait(), ", 0 damaged" in verified.out) == (0, True), verified.err
    records = [json.loads(store.read_text(key)) for key in store.list_keys("runs")]
    needed = {artifact["fingerprint"] for record in records for artifact in record["artifacts"].values()}
    assert (len(records), {ref.fingerprint for ref in store.refs()}) == (2, needed)
    assert store.backend.files("leases") == {}
