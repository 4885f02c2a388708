"""What Prefect costs: the smoke DAG under it against the same stages called by hand.

python benchmarks/orchestration.py

Every run is a process of its own with a store of its own, imports included. The stages called directly run as the DAG
lays them out, two at a time as in the flow; they write the same artifacts. A cached task is one of a second run, on a
standing server, that finds everything in its store; the call of the flow is timed, so its own start and end count too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from artifacts import free_port, running
from timing import machine_facts, spread, target

RESULTS = Path(__file__).parent / "results" / "orchestration.json"
SCRIPTS = Path(sys.executable).parent
PROFILE, TURNS = "smoke", 3
MORE_SECONDS, CACHED_MILLISECONDS = 10.0, 150.0


def run_directly(store_uri: str) -> None:
    """Make every artifact of the DAG without Prefect."""
    from dr_irl.artifacts import ArtifactRef
    from dr_irl.profile import load_settings
    from flows.runners.running import STAGES_AT_ONCE
    from tasks.dag import Node, build_dag
    from tasks.orchestration.caching import import_maker
    from tasks.orchestration.machine import spare_what_stays
    from tasks.orchestration.opening import open_store

    settings, store = load_settings(PROFILE), open_store(store_uri)
    dag = build_dag(settings)
    for node in dag.values():
        import_maker(node.stage)
    spare_what_stays()
    futures: dict[str, Future[ArtifactRef]] = {}

    def make(node: Node) -> ArtifactRef:
        for earlier in node.after:
            futures[earlier].result()
        return make_artifact(
            node, {role: futures[name].result() for role, name in node.inputs.items()}, settings, store
        )

    with ThreadPoolExecutor(STAGES_AT_ONCE) as pool:
        for name, node in dag.items():
            futures[name] = pool.submit(make, node)
    for future in futures.values():
        future.result()


def make_artifact(node: Any, refs: Mapping[str, Any], settings: Any, store: Any) -> Any:
    """Call the function of a stage as its task does, and commit what it wrote."""
    import torch

    from dr_irl.progress import SilentProgress
    from tasks.orchestration.caching import Inputs, Job, import_maker
    from tasks.orchestration.machine import give_back_memory

    identity = node.stage.identity(settings, node.variant, refs)
    ref = store.ref(identity.stage, identity.fingerprint)
    torch.set_num_threads(1 if node.stage.single_thread else settings.threads)
    job = Job(settings, Inputs(store, refs), node.variant, SilentProgress(), store.checkpoint(ref))
    with store.build(identity) as folder:
        import_maker(node.stage)(folder, job)
    job.unfinished.delete()
    give_back_memory()
    return ref


def time_cached(store: str) -> None:
    """Print the seconds of a call of the flow that finds everything, and how many tasks it has."""
    from dr_irl.profile import load_settings
    from flows.pipeline import dr_irl_pipeline
    from tasks.dag import build_dag

    start = time.perf_counter()
    dr_irl_pipeline(profile=PROFILE, store=store)
    print(json.dumps([time.perf_counter() - start, len(build_dag(load_settings(PROFILE)))]))


def measure(scratch: Path) -> dict[str, Any]:
    """Time all sides in turns."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    environment |= {"PREFECT_HOME": str(scratch / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    seconds: dict[str, list[float]] = {"directly": [], "temporary_server": [], "standing_server": []}
    cached: list[float] = []
    tasks = 0
    with prefect_server(environment) as url:
        watched = environment | {"PREFECT_API_URL": url}
        for turn in range(TURNS):
            stores = {side: str(scratch / f"{side}-{turn}") for side in seconds}
            run = [str(SCRIPTS / "dr-irl"), "run", "--profile", PROFILE, "--store"]
            own = [sys.executable, __file__]
            for side, command, env in (
                ("directly", [*own, "--directly", stores["directly"]], environment),
                ("temporary_server", [*run, stores["temporary_server"]], environment),
                ("standing_server", [*run, stores["standing_server"]], watched),
            ):
                start = time.perf_counter()
                output(command, env)
                seconds[side].append(time.perf_counter() - start)
                print(f"{side}: {seconds[side][-1]:.1f} s", file=sys.stderr, flush=True)
            call, tasks = json.loads(output([*own, "--cached", stores["standing_server"]], watched).splitlines()[-1])
            cached.append(1000 * call / tasks)
            print(f"cached: {cached[-1]:.0f} ms a task", file=sys.stderr, flush=True)
    return report(seconds, cached, tasks)


def report(seconds: Mapping[str, list[float]], cached: list[float], tasks: int) -> dict[str, Any]:
    """Compare the sides turn by turn."""
    more = {
        side: spread([under - bare for under, bare in zip(seconds[side], seconds["directly"], strict=True)])
        for side in ("temporary_server", "standing_server")
    }
    per_task = spread(cached)
    return {
        **machine_facts("cpu"),
        "profile": PROFILE,
        "tasks": tasks,
        "seconds": {side: spread(values) for side, values in seconds.items()},
        "seconds_more": more,
        "cached_task_milliseconds": per_task,
        "targets": [
            *(target(f"seconds more, {side}", more[side]["median"], at_most=MORE_SECONDS) for side in more),
            target("milliseconds per cached task", per_task["median"], at_most=CACHED_MILLISECONDS),
        ],
    }


def output(command: list[str], environment: Mapping[str, str]) -> str:
    """Return what a command that must end well wrote to standard output."""
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def prefect_server(environment: Mapping[str, str]) -> Iterator[str]:
    """Run a Prefect server with a home of its own on a free port."""
    port = free_port()
    command = [str(SCRIPTS / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with running(command, {**environment, "PREFECT_HOME": environment["PREFECT_HOME"] + "-server"}, port):
        yield f"http://127.0.0.1:{port}/api"


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--directly", help=argparse.SUPPRESS)
    parser.add_argument("--cached", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.directly:
        run_directly(options.directly)
    elif options.cached:
        time_cached(options.cached)
    else:
        with tempfile.TemporaryDirectory(prefix="dr-irl-orchestration-") as scratch:
            results = measure(Path(scratch))
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
