"""Stages in other processes: the same bytes, the GPUs they need, and the end they come to."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import distributed
import psutil
import pytest

from dr_irl.config import Settings
from dr_irl.errors import UserError
from dr_irl.profile import load_settings
from flows.runners.gpus import check_gpus_here, gpus_needed
from flows.runners.running import running_on

FLOW = """
import json, sys
from prefect import flow
from dr_irl.profile import load_settings
from flows.pipeline import align
from flows.runners.running import running_on
from tasks.orchestration.opening import open_store
from tasks.orchestration.logs import log_at_info

@flow
def smoke(runner: str, store: str, overrides: dict) -> None:
    with running_on(runner):
        align(load_settings("smoke", overrides), open_store(store))

if __name__ == "__main__":
    log_at_info()
    smoke(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
"""
ELSEWHERE = ["processes", "dask", "ray"]
FEWER: dict[str, Any] = {"reward.training": "joint", "reward.single_baseline": False}
"""A third of the stages less, each of which imports everything in a process of its own."""
LONG = FEWER | {"grpo.steps": 2000, "grpo.checkpoint_every": 5}
SECONDS = 240
"""How long anything may take before a test gives up."""


class Script:
    """Starts the flow above in a process of its own, with a Prefect server to talk to."""

    def __init__(self, folder: Path, api: str) -> None:
        self.path, self._api = folder / "script.py", api
        self.path.write_text(FLOW)

    def start(
        self, runner: str, store: Path, overrides: Mapping[str, Any], **environment: str
    ) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return subprocess.Popen(
            [sys.executable, str(self.path), runner, str(store), json.dumps(overrides)],
            env=kept
            | {
                "PREFECT_API_URL": self._api,
                "PREFECT_HOME": str(self.path.parent / "home"),
                "PREFECT_LOGGING_EXTRA_LOGGERS": "dr_irl,tasks",
                "OMP_NUM_THREADS": "1",
            }
            | environment,
            stdout=subprocess.DEVNULL,
            stderr=(self.path.parent / "errors").open("w"),
            text=True,
            start_new_session=True,
        )

    def run(self, runner: str, store: Path, **environment: str) -> None:
        status = self.start(runner, store, FEWER, **environment).wait(SECONDS)
        assert status == 0, (self.path.parent / "errors").read_text()


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory, prefect_api: str) -> Script:
    return Script(tmp_path_factory.mktemp("script"), prefect_api)


@pytest.fixture(scope="module")
def in_threads(tmp_path_factory: pytest.TempPathFactory, script: Script) -> Path:
    """The store of a run in threads."""
    store = tmp_path_factory.mktemp("threads") / "store"
    script.run("threads", store)
    return store


@pytest.fixture(scope="module", params=ELSEWHERE)
def elsewhere(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, script: Script) -> Path:
    """The store of a run in other processes."""
    store = tmp_path_factory.mktemp(request.param) / "store"
    script.run(request.param, store)
    return store


def contents(store: Path) -> dict[str, str]:
    """Return the hash of every file but those that say how long something took."""
    found = [json.loads(path.read_text()) for path in store.glob("objects/**/manifest.json")]
    return {
        f"{manifest['stage']}/{manifest['fingerprint']}/{name}": entry["sha256"]
        for manifest in found
        for name, entry in manifest["files"].items()
        if f"{manifest['stage']}/{name}" not in ("grpo/steps.parquet", "report/report.html")
    }


@pytest.mark.slow
def test_other_processes_make_the_bytes_that_threads_make(in_threads: Path, elsewhere: Path) -> None:
    assert contents(elsewhere) == contents(in_threads)


@pytest.mark.slow
def test_results_in_the_store_are_plain_json(elsewhere: Path) -> None:
    results = [path for path in (elsewhere / "results").rglob("*") if path.is_file()]
    assert results and all(json.loads(json.loads(path.read_text())["result"]) for path in results)


@pytest.mark.slow
def test_all_tasks_stand_on_the_page_of_the_run_and_say_what_they_do(
    elsewhere: Path, ask_prefect: Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]
) -> None:
    [run] = ask_prefect("flow_runs/filter", {"limit": 1, "sort": "START_TIME_DESC"})
    of_run = {"operator": "and_", "id": {"any_": [run["id"]]}}
    tasks = ask_prefect("task_runs/filter", {"flow_runs": of_run})
    logs = ask_prefect("logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200})
    lines = [line["message"] for line in logs if line["name"] == "dr_irl.progress"]
    assert (len(tasks), any(re.match(r"GRPO 3/3", line) for line in lines)) == (len(manifest_paths(elsewhere)), True)


def manifest_paths(store: Path) -> list[Path]:
    return list(store.glob("objects/**/manifest.json"))


def latest_tasks(ask_prefect: Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The task runs of the flow run that started last."""
    [run] = ask_prefect("flow_runs/filter", {"limit": 1, "sort": "START_TIME_DESC"})
    return ask_prefect("task_runs/filter", {"flow_runs": {"operator": "and_", "id": {"any_": [run["id"]]}}})


@pytest.fixture(scope="module")
def on_a_cluster(
    tmp_path_factory: pytest.TempPathFactory,
    in_threads: Path,
    script: Script,
    ask_prefect: Callable[[str, Mapping[str, Any]], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """The tasks of a run that had to evaluate two of its models, on a Dask cluster with a worker for each."""
    store = tmp_path_factory.mktemp("cluster") / "store"
    shutil.copytree(in_threads, store)
    for made in ("evaluation/unaligned", "evaluation/warm-start", "report"):
        shutil.rmtree(store / "objects" / made)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=":0") as cluster:
        assert isinstance(cluster, distributed.LocalCluster)  # to the type checker it may be a coroutine
        script.run("dask", store, DASK_SCHEDULER_ADDRESS=cluster.scheduler_address)
    assert contents(store) == contents(in_threads)
    return latest_tasks(ask_prefect)


def tasks_before(tasks: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Name of every task -> the tasks that it could not begin before, at any remove, as Prefect recorded them."""
    names = {task["id"]: task["name"].strip() for task in tasks}
    direct = {
        task["id"]: {source["id"] for sources in task["task_inputs"].values() for source in sources if "id" in source}
        for task in tasks
    }

    def before(task: str) -> set[str]:
        return direct[task].union(*(before(earlier) for earlier in direct[task]))

    return {name: {names[earlier] for earlier in before(task)} for task, name in names.items()}


@pytest.mark.slow
def test_no_evaluation_waits_for_another_on_a_cluster(on_a_cluster: list[dict[str, Any]]) -> None:
    before = tasks_before(on_a_cluster)
    evaluations = {"evaluation unaligned", "evaluation warm-start", "evaluation aligned"}
    assert {name: earlier & evaluations for name, earlier in before.items() if name in evaluations} == dict.fromkeys(
        evaluations, set()
    )
    assert before["report"] >= evaluations and "grpo" in before["evaluation aligned"]  # what is recorded is not nothing


@pytest.mark.slow
def test_models_that_were_evaluated_side_by_side_share_one_table(
    on_a_cluster: list[dict[str, Any]], ask_prefect: Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]
) -> None:
    run = {"operator": "and_", "id": {"any_": [on_a_cluster[0]["flow_run_id"]]}}
    [table] = ask_prefect("artifacts/filter", {"artifacts": {"key": {"any_": ["refusal"]}}, "flow_runs": run})
    assert list(json.loads(table["data"])[0]) == ["prompts", "unaligned", "warm start", "aligned"]


@pytest.fixture(params=ELSEWHERE)
def stopped(
    request: pytest.FixtureRequest, in_threads: Path, tmp_path: Path, script: Script
) -> Iterator[tuple[Path, list[psutil.Process]]]:
    """A run that got SIGTERM in the middle of GRPO: its store and the processes it had."""
    store = tmp_path / "store"
    shutil.copytree(in_threads, store)
    run = script.start(request.param, store, LONG)
    deadline = time.monotonic() + SECONDS
    while not any(path.is_file() for path in store.glob("checkpoints/grpo/**/*")):
        assert run.poll() is None and time.monotonic() < deadline, (script.path.parent / "errors").read_text()
        time.sleep(0.05)
    children = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(signal.SIGTERM)
    run.wait(SECONDS)
    yield store, children
    for child in children:
        if child.is_running():
            child.kill()


@pytest.mark.slow
def test_a_stopped_run_leaves_no_process_and_no_lease(stopped: tuple[Path, list[psutil.Process]]) -> None:
    store, children = stopped
    _, alive = psutil.wait_procs(children, timeout=20)
    leases = [path for path in store.glob("leases/grpo/**/*") if path.is_file()]
    assert (len(children) > 0, alive, leases) == (True, [], [])


def test_what_a_dask_worker_does_first_loads_no_library_of_the_stages() -> None:
    code = "import sys, flows.runners.page_log; print(sorted({'prefect', 'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def on_gpu(**overrides: Any) -> Settings:
    return load_settings("smoke", {"models.device": "cuda", **overrides})


def test_a_stage_with_a_model_takes_a_gpu() -> None:
    assert gpus_needed("reward", on_gpu()) == 1


def test_a_stage_without_a_model_takes_none() -> None:
    assert gpus_needed("report", on_gpu()) == 0


def test_no_stage_takes_a_gpu_where_the_settings_name_none() -> None:
    assert gpus_needed("reward", load_settings("smoke")) == 0


def test_grpo_takes_a_gpu_for_each_process_that_trains() -> None:
    by_trl = {"alignment.trainer": "grpo-trl", "grpo.top_up": 0, "hardness.source": "reference"}
    settings = on_gpu(**by_trl, **{"alignment.num_processes": 2})
    assert gpus_needed("grpo", settings) == 2


def test_a_gpu_that_this_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UserError, match=r"needs 2 GPU\(s\) and this machine has 1"):
        check_gpus_here(2)


def test_a_runner_that_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'dr-irl\[ray\]'"), running_on("ray"):
        pass
