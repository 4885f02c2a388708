"""The store's speed and memory, measured on this machine; writes results/artifacts.json.

    python benchmarks/artifacts.py --store STORE      # a store that holds a run of profile laptop

Four claims: a run that finds everything in the store ends at once; a changed GRPO setting rebuilds GRPO, its evaluation
and the report only; artifacts go to S3 nearly as fast as plain s3fs puts the same files; a table of a million rows is
written and read in the memory that a table of a hundred thousand needs. The S3 server is rclone on loopback.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import s3fs

from dr_irl.artifacts import Store
from dr_irl.artifacts.store import Identity
from dr_irl.profile import load_settings
from dr_irl.records import Completion
from flows.plan import plan_run
from tasks.dag import build_dag
from tasks.identify import identify

RESULTS = Path(__file__).parent / "results" / "artifacts.json"
SCRIPTS = Path(sysconfig.get_path("scripts"))
ROUNDS = 5
TRANSFERS = 21
"""Transfers vary more from one to the next than anything else here."""
LARGE_FILES, LARGE_BYTES = 4, 64_000_000
SMALL_FILES, SMALL_BYTES = 40, 20_000
ROWS = (100_000, 1_000_000)


def measure_warm_runs(store: str, profile: str, scratch: Path) -> dict[str, Any]:
    """Time a run that finds everything: with nobody watching, and on a Prefect server."""
    command = [str(SCRIPTS / "dr-irl"), "run", "--profile", profile, "--store", store]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    environment |= {"PREFECT_HOME": str(scratch / "prefect"), "DO_NOT_TRACK": "1"}
    alone = [timed(command, environment) for _ in range(ROUNDS)]
    with prefect_server(environment) as url:
        watched = [timed(command, environment | {"PREFECT_API_URL": url}) for _ in range(ROUNDS)]
    code = (
        "import time; start = time.perf_counter(); from flows.commands.launch import _all_in_store; "
        f"assert _all_in_store({profile!r}, {{}}, {store!r}, {{}}) is not None; print(time.perf_counter() - start)"
    )
    planning = [float(subprocess.check_output([sys.executable, "-c", code], env=environment)) for _ in range(ROUNDS)]
    return {
        "seconds": spread(alone),
        "seconds_on_a_prefect_server": spread(watched),
        "of_which_ours_seconds": spread(planning),
    }


def rebuilt_by_a_grpo_setting(store: str, profile: str) -> list[str]:
    """Return what a run with another GRPO setting would build."""
    settings = load_settings(profile, {"grpo.learning_rate": 1.23e-4})
    dag = build_dag(settings)
    opened = Store(store)
    planned = plan_run(identify(dag, settings, opened), opened)
    return [name for name, each in planned.items() if each.state == "miss"]


def measure_s3(scratch: Path) -> dict[str, Any]:
    """Time the store's commit and plain s3fs `put` of the same files, in turn, to the same server."""
    files = scratch / "files"
    files.mkdir()
    for place in range(LARGE_FILES):
        (files / f"large-{place}").write_bytes(os.urandom(LARGE_BYTES))
    for place in range(SMALL_FILES):
        (files / f"small-{place}").write_bytes(os.urandom(SMALL_BYTES))
    with s3_server(scratch / "bucket-root"):
        plain_fs, store = s3fs.S3FileSystem(use_listings_cache=False), Store("s3://bucket/store")
        ours: list[float] = []
        plain: list[float] = []
        for number in range(TRANSFERS):
            plain.append(clock(lambda n=number: plain_fs.put(f"{files}/", f"bucket/plain/{n}/", recursive=True)))
            ours.append(clock(lambda n=number: commit(store, files, n)))
            plain_fs.rm(f"bucket/plain/{number}", recursive=True)
            store.remove(store.ref("benchmark", f"{number:032x}"))
    size = LARGE_FILES * LARGE_BYTES + SMALL_FILES * SMALL_BYTES
    return {
        "bytes": size,
        "files": LARGE_FILES + SMALL_FILES,
        "store_seconds": spread(ours),
        "s3fs_put_seconds": spread(plain),
        "throughput_ratio": spread([p / o for o, p in zip(ours, plain, strict=True)]),
    }


def commit(store: Store, files: Path, number: int) -> None:
    """Commit the files as an artifact; they are linked into its folder, as a stage would have written them there."""
    with store.build(Identity("benchmark", f"{number:032x}", {}, {}, {})) as folder:
        for path in files.iterdir():
            os.link(path, folder / path.name)


def measure_rows(count: int, scratch: Path) -> dict[str, Any]:
    """Write and read a table in a process of its own."""
    command = [sys.executable, __file__, "--rows", str(count), "--scratch", str(scratch)]
    return json.loads(subprocess.check_output(command))


def write_and_read(count: int, scratch: Path) -> dict[str, Any]:
    """Commit a table of `count` rows to a folder store, read it back row by row, and say what it took."""
    store = Store(str(scratch / f"rows-{count}"))
    identity = Identity("table", f"{count:032x}", {}, {}, {})
    start = time.perf_counter()
    with store.build(identity) as folder:
        rows = (Completion(f"p{n}", n % 4, f"answer {n} of some words", 9, False) for n in range(count))
        Completion.write(rows, folder / "rows.parquet")
    written = time.perf_counter()
    path = store.fetch(store.ref(identity.stage, identity.fingerprint)) / "rows.parquet"
    assert sum(1 for _ in Completion.scan(path)) == count
    return {
        "rows": count,
        "write_seconds": round(written - start, 2),
        "read_seconds": round(time.perf_counter() - written, 2),
        "peak_resident_mb": round(peak_resident_bytes() / 1e6),
    }


def peak_resident_bytes() -> int:
    """Return the largest resident set of this process; getrusage would count what it was forked from."""
    [line] = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def timed(command: Sequence[str], environment: dict[str, str]) -> float:
    """Return the wall seconds of a command that must end well."""
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def clock(work: Any) -> float:
    """Return the wall seconds of a call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(values: Sequence[float]) -> dict[str, float]:
    """Reduce repeated measurements to their median and extremes."""
    return {"median": round(median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


@contextmanager
def prefect_server(environment: dict[str, str]) -> Iterator[str]:
    """Run a Prefect server on a free port."""
    port = free_port()
    command = [str(SCRIPTS / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, environment, port):
        yield f"http://127.0.0.1:{port}/api"


@contextmanager
def s3_server(folder: Path) -> Iterator[None]:
    """Run rclone as an S3 server with one bucket, and point the environment at it."""
    (folder / "bucket").mkdir(parents=True)
    port, key, secret = free_port(), "key", "secret-of-this-benchmark"
    command = [str(SCRIPTS / "rclone"), "serve", "s3", "--auth-key", f"{key},{secret}"]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with running([*command, "--addr", f"127.0.0.1:{port}", str(folder)], dict(os.environ), port):
        yield


@contextmanager
def running(command: Sequence[str], environment: dict[str, str], port: int) -> Iterator[None]:
    """Run a server, wait until it answers, and end it."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} did not start") from None
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def main() -> None:
    """Measure all of it and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--store", help="a store that holds a whole run of the profile")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rows:
        print(json.dumps(write_and_read(options.rows, options.scratch)))
        return
    if not options.store:
        parser.error("--store: name a store that holds a run, as of: dr-irl run --profile laptop --store STORE")
    scratch = Path(tempfile.mkdtemp(prefix="dr-irl-benchmark-"))
    try:
        results = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "profile": options.profile,
            "warm_run": measure_warm_runs(options.store, options.profile, scratch),
            "rebuilt_by_a_grpo_setting": rebuilt_by_a_grpo_setting(options.store, options.profile),
            "s3": measure_s3(scratch),
            "rows": [measure_rows(count, scratch) for count in ROWS],
        }
    finally:
        shutil.rmtree(scratch)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
