"""Runs that are killed, stopped or interrupted, wherever they are, and what the same command makes of it afterwards."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.timeout(3600)  # on a slow machine every one of the many runs takes half a minute

# Long enough to be hit in the middle, with a checkpoint every now and then.
STEPS = {"warm_start.steps": 60, "reward.epochs": 20, "reward.patience": 20, "grpo.steps": 100}
OFTEN = {"warm_start.checkpoint_every": 5, "reward.checkpoint_every": 2, "grpo.checkpoint_every": 5}
TRAINED = ["warm-start", "reward", "grpo"]
SEEDS = [1, 2]
POINTS = [
    ("sources", "leases"),
    ("route", "leases"),
    ("balance", "leases"),
    ("warm-start", "leases"),
    ("warm-start", "checkpoints"),
    ("completions", "leases"),
    ("reward/benign", "leases"),
    ("reward/privacy_property", "checkpoints"),
    ("reward/insult", "checkpoints"),
    ("hardness", "leases"),
    ("panel", "leases"),
    ("panel-report", "leases"),
    ("grpo", "leases"),
    ("grpo", "checkpoints"),
    ("grpo", "checkpoints"),
    ("evaluation/unaligned", "leases"),
    ("evaluation/warm-start", "leases"),
    ("evaluation/aligned", "leases"),
    ("report", "leases"),
]
"""Where a run is killed: a random time after this stage has this in the store."""


def arguments(store: Path) -> list[str]:
    settings = (f"--set={name}={value}" for name, value in (STEPS | OFTEN).items())
    return ["run", "--profile", "smoke", "--store", str(store), *settings]


def manifests(store: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in store.glob("objects/**/manifest.json")]
    return {manifest["stage"]: manifest for manifest in found}


def contents(store: Path) -> dict[str, str]:
    """Return the hash of every file but those that say how long something took."""
    return {
        f"{stage}/{manifest['fingerprint']}/{name}": entry["sha256"]
        for stage, manifest in manifests(store).items()
        for name, entry in manifest["files"].items()
        if f"{stage}/{name}" not in ("grpo/steps.parquet", "report/report.html")
    }


def has(store: Path, kind: str, stage: str) -> bool:
    """Tell whether the store has a finished file of this kind for this stage."""
    folder = store / kind / stage
    return any(not path.name.startswith(".") for path in folder.rglob("*") if path.is_file())


@dataclass
class Chain:
    """A store in which one run after the other was killed, and the last was not."""

    store: Path
    hits: list[str] = field(default_factory=list)
    """The stages that were being built when their run was killed."""
    said: str = ""
    """What all its runs said."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, make_dr_irl: Callable[..., Any], prefect_api: str) -> Path:
    """The store of a run that nothing happened to."""
    store = tmp_path_factory.mktemp("reference") / "store"
    run = make_dr_irl(prefect_api).run(*arguments(store))
    assert run.wait() == 0, run.err
    return store


@pytest.fixture(scope="module")
def chains(
    tmp_path_factory: pytest.TempPathFactory, make_dr_irl: Callable[..., Any], prefect_api: str, reference: Path
) -> list[Chain]:
    """Stores in which a run was killed at each of the points, and went on to the next."""
    seconds = {stage: manifest["wall_seconds"] for stage, manifest in manifests(reference).items()}
    folder = tmp_path_factory.mktemp("killed")

    def kill_all_along(seed: int) -> Chain:
        chain, commands, chance = Chain(folder / f"{seed}"), make_dr_irl(prefect_api), random.Random(seed)
        for stage, kind in POINTS:
            for share in (chance.uniform(0.0, 0.5), 0.0, 0.0):
                run = commands.start(*arguments(chain.store))
                if run.until(lambda stage=stage, kind=kind: has(chain.store, kind, stage)):
                    time.sleep(share * seconds[stage])
                run.send(signal.SIGKILL, group=True)
                run.wait()
                chain.said += run.err
                if has(chain.store, "leases", stage) and not has(chain.store, "objects", stage):
                    chain.hits.append(stage)
                    break
                assert has(chain.store, "objects", stage), run.err
                shutil.rmtree(chain.store / "objects" / stage)  # it was quicker than we were; let it be built again
        last = commands.run(*arguments(chain.store))
        chain.said += last.err
        assert last.wait() == 0, last.err
        return chain

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(kill_all_along, SEEDS))


@pytest.mark.slow
def test_every_stage_was_killed_at_least_once(chains: list[Chain]) -> None:
    assert {stage for chain in chains for stage in chain.hits} == {stage for stage, _ in POINTS}


@pytest.mark.slow
def test_thirty_runs_were_killed_while_they_built_something(chains: list[Chain]) -> None:
    assert sum(len(chain.hits) for chain in chains) >= 30


@pytest.mark.slow
def test_after_kills_everything_has_the_bits_of_a_run_that_was_not_killed(chains: list[Chain], reference: Path) -> None:
    expected = contents(reference)
    assert [contents(chain.store) for chain in chains] == [expected] * len(chains)


@pytest.mark.slow
@pytest.mark.parametrize("stage", TRAINED)
def test_after_a_kill_training_goes_on_from_its_checkpoint(stage: str, chains: list[Chain]) -> None:
    pattern = rf"going on from step [1-9]\d* of the checkpoint checkpoints/{stage}/"
    assert any(re.search(pattern, chain.said) for chain in chains)


@pytest.mark.slow
def test_a_stage_that_was_killed_and_built_again_leaves_no_lease(chains: list[Chain]) -> None:
    left = [(stage, chain.store) for chain in chains for stage in chain.hits if has(chain.store, "leases", stage)]
    assert left == []


@pytest.mark.slow
def test_a_stage_that_was_killed_and_built_again_leaves_no_checkpoint(chains: list[Chain]) -> None:
    left = [(stage, chain.store) for chain in chains for stage in chain.hits if has(chain.store, "checkpoints", stage)]
    assert left == []


@pytest.mark.slow
def test_after_kills_every_hash_is_right(chains: list[Chain], make_dr_irl: Callable[..., Any]) -> None:
    for chain in chains:
        verified = make_dr_irl().run("store", "verify", "--store", str(chain.store))
        assert verified.wait() == 0, verified.out + verified.err


@pytest.mark.slow
def test_gc_removes_what_killed_runs_left_and_nothing_else(
    chains: list[Chain], reference: Path, make_dr_irl: Callable[..., Any], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(chains[0].store, store)
    make_dr_irl().run("store", "gc", "--min-age", "0s", "--delete", "--store", str(store))
    kinds = ("staging", "leases", "checkpoints")
    left = [path for kind in kinds for path in (store / kind).rglob("*") if path.is_file()]
    assert (left, contents(store)) == ([], contents(reference))


@dataclass(frozen=True)
class Stopped:
    """A run that was sent a signal in the middle of GRPO, and its store."""

    number: signal.Signals
    run: Any
    store: Path
    seconds: float
    """From the signal to the end of the process."""
    children: list[psutil.Process]
    """Those it had when the signal came."""
    checkpoints: list[Path]
    """Those that lay in the store when it had ended."""


@pytest.fixture
def before_grpo(reference: Path, tmp_path: Path) -> Path:
    """A store that lacks GRPO and what depends on it."""
    store = tmp_path / "store"
    shutil.copytree(reference, store)
    for stage in ("grpo", "evaluation/aligned", "report"):
        shutil.rmtree(store / "objects" / stage)
    return store


@pytest.fixture(
    scope="module",
    params=[(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)],
    ids=["SIGTERM", "SIGTERM-to-the-group", "Ctrl-C"],
)
def stopped(
    request: pytest.FixtureRequest,
    reference: Path,
    make_dr_irl: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Stopped:
    """A run with a Prefect server of its own, stopped in the middle of GRPO. A terminal's Ctrl-C reaches the group."""
    number, group = request.param
    store = before_grpo.__wrapped__(reference, tmp_path_factory.mktemp("stopped"))  # type: ignore[attr-defined]
    run = make_dr_irl().start(*arguments(store))
    assert run.until(lambda: has(store, "checkpoints", "grpo")), run.err
    children = run.children()
    began = time.monotonic()
    run.send(number, group=group)
    run.wait()
    return Stopped(number, run, store, time.monotonic() - began, children, list(store.glob("checkpoints/grpo/*")))


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_status_of_its_signal(stopped: Stopped) -> None:
    assert stopped.run.wait() == 128 + stopped.number, stopped.run.err


@pytest.mark.slow
def test_a_stopped_run_says_one_sentence(stopped: Stopped) -> None:
    [sentence] = stopped.run.sentences()
    assert re.match(r"dr-irl: (stopped by SIGTERM|interrupted); .* the same command goes on from there$", sentence)


@pytest.mark.slow
def test_a_stopped_run_ends_within_ten_seconds(stopped: Stopped) -> None:
    assert stopped.seconds < 10


@pytest.mark.slow
def test_a_stopped_run_leaves_no_process(stopped: Stopped) -> None:
    assert stopped.children, "its Prefect server is a process of its own"
    _, alive = psutil.wait_procs(stopped.children, timeout=20)
    assert alive == []


@pytest.mark.slow
def test_a_stopped_run_leaves_a_checkpoint(stopped: Stopped) -> None:
    assert len(stopped.checkpoints) == 1


@pytest.mark.slow
def test_a_stopped_run_leaves_no_scratch_folder_and_no_lease(stopped: Stopped) -> None:
    assert [path for kind in ("staging", "leases") for path in (stopped.store / kind).rglob("*")] == []


@pytest.mark.slow
def test_after_a_stop_the_same_command_goes_on_to_the_same_bits(
    stopped: Stopped, reference: Path, make_dr_irl: Callable[..., Any], prefect_api: str
) -> None:
    again = make_dr_irl(prefect_api).run(*arguments(stopped.store))
    resumed = re.search(r"going on from step [1-9]\d* of the checkpoint checkpoints/grpo/", again.err)
    assert (resumed is not None, contents(stopped.store)) == (True, contents(reference)), again.err


@pytest.mark.slow
def test_no_server_outlives_a_run_that_is_killed(before_grpo: Path, make_dr_irl: Callable[..., Any]) -> None:
    run = make_dr_irl().start(*arguments(before_grpo))
    assert run.until(lambda: has(before_grpo, "checkpoints", "grpo")), run.err
    children = run.children()
    run.send(signal.SIGKILL)  # to it alone, as when memory runs out
    _, alive = psutil.wait_procs(children, timeout=20)
    for process in alive:
        process.kill()
    assert children and not alive


@pytest.mark.slow
def test_a_second_sigterm_ends_a_run_at_once(
    before_grpo: Path, make_dr_irl: Callable[..., Any], prefect_api: str
) -> None:
    run = make_dr_irl(prefect_api).start(*arguments(before_grpo))
    assert run.until(lambda: has(before_grpo, "checkpoints", "grpo")), run.err
    run.send(signal.SIGTERM)
    stopped = re.compile(r"^GRPO \d+/", re.MULTILINE)
    assert run.until(lambda: stopped.search(run.err) is not None), run.err  # the first signal has been heard
    run.send(signal.SIGTERM)
    assert run.wait() == -signal.SIGTERM


STUCK = """
import signal, threading, time
from tasks.orchestration.interruption import stopping_on_signals

step = threading.Thread(target=time.sleep, args=(600,))
step.start()
for number in (signal.SIGTERM, signal.SIGINT):  # SIGINT too: in the background of a shell it would be ignored
    signal.signal(number, signal.default_int_handler)
try:
    with stopping_on_signals():
        print("working", flush=True)
        step.join()
except KeyboardInterrupt:
    print("stopping", flush=True)
    step.join()
"""


@pytest.fixture
def stuck() -> Iterator[subprocess.Popen[str]]:
    """A process whose step takes ten minutes."""
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait_for_the_step(number: signal.Signals, stuck: subprocess.Popen[str]) -> None:
    assert stuck.stdout is not None
    for word in ("working\n", "stopping\n"):
        assert stuck.stdout.readline() == word
        os.kill(stuck.pid, number)
    assert stuck.wait(30) == -number
