"""Time, memory and outcome of a profile, measured on this machine; writes results/demo.json or results/laptop.json.

    python benchmarks/demo.py --seeds 0 1 2
    python benchmarks/demo.py --profile laptop --seeds 0 1 2

Each run is a process of its own with a fresh store. Seeds measured earlier with the same settings are kept. Memory
is the largest sum of resident sets over the process and its children (the temporary Prefect server included), sampled
twice a second.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from dr_irl.artifacts import Store
from dr_irl.evaluation.suites import HARMFUL, to_answer
from dr_irl.profile import load_settings
from flows.record import load_run

RESULTS = Path(__file__).parent / "results"
PROFILES = ("demo", "laptop")


def measured_run(arguments: list[str]) -> dict[str, float]:
    """Run `dr-irl` with arguments; returns wall seconds and peak resident gigabytes."""
    command = [str(Path(sys.executable).with_name("dr-irl")), "run", *arguments]
    start = time.monotonic()
    process = subprocess.Popen(command)
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident_bytes(process.pid))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {"seconds": round(time.monotonic() - start, 1), "peak_resident_gb": round(peak / 1e9, 2)}


def resident_bytes(pid: int) -> int:
    """Sum the resident sets of a process and its children; those that ended meanwhile count nothing."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def outcome(store_uri: str) -> dict[str, Any]:
    """Read the summaries of the newest run of a store."""
    store = Store(store_uri)
    record = load_run(store, "latest")
    summaries = {
        name.removeprefix("evaluation/").replace("-", " "): json.loads((store.fetch(ref) / "summary.json").read_text())
        for name, ref in record.artifacts.items()
        if name.startswith("evaluation/")
    }
    seconds = {name: store.manifest(ref).wall_seconds for name, ref in record.artifacts.items()}
    return {"models": {name: headline(summary) for name, summary in summaries.items()}, "stage_seconds": seconds}


def headline(summary: dict[str, Any]) -> dict[str, Any]:
    """Reduce a summary to shares with counts."""
    rates = summary["refusal"] | summary["over_refusal"]
    shares = {
        name: {"share": round(r["hits"] / r["count"], 4) if r["count"] else None} | r for name, r in rates.items()
    }
    return {"refusal": shares} | {k: summary[k] for k in ("perplexity", "distinct_2", "commonest_opening")}


def machine() -> str:
    """Describe this machine."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 1e9:.0f} GB"


def results_file(profile: str) -> Path:
    """Name the file that holds a profile's results."""
    return RESULTS / f"{profile}.json"


def known_runs(settings: dict[str, Any]) -> dict[str, Any]:
    """Read the runs measured before with the same settings on the same kind of machine."""
    path = results_file(settings["profile"])
    if not path.exists():
        return {}
    result = json.loads(path.read_text())
    same = result.get("settings") == settings and result.get("machine") == machine()
    return dict(result["runs"]) if same else {}


def write(settings: dict[str, Any], smoke: dict[str, float], runs: dict[str, Any]) -> None:
    """Write the results, with the medians over seeds."""
    suites = {HARMFUL: "all"} | {suite.name: suite.name for suite in to_answer()}
    over_seeds = {
        model: {
            name: median(r["models"][model]["refusal"][key]["share"] for r in runs.values())
            for name, key in suites.items()
        }
        | {"perplexity": median(r["models"][model]["perplexity"] for r in runs.values())}
        for model in next(iter(runs.values()))["models"]
    }
    result = {
        "machine": machine(),
        "settings": settings,
        "smoke": smoke,
        "median_seconds": median(run["first"]["seconds"] for run in runs.values()),
        "median_seconds_again": median(run["again"]["seconds"] for run in runs.values()),
        "median_over_seeds": over_seeds,
        "runs": dict(sorted(runs.items())),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    results_file(settings["profile"]).write_text(json.dumps(result, indent=2) + "\n")


def main() -> None:
    """Measure smoke, the profile for every seed, and a second run of each; results are written after every seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--profile", choices=PROFILES, default="demo")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--store", type=Path, help="folder that keeps the stores; a temporary one by default")
    options = parser.parse_args()
    folder = options.store or Path(tempfile.mkdtemp(prefix="dr-irl-bench-"))
    settings = load_settings(options.profile).model_dump(mode="json", exclude={"seed"})
    smoke = measured_run(["--profile", "smoke", "--store", str(folder / "smoke")])
    runs = known_runs(settings)
    for seed in options.seeds:
        arguments = ["--profile", options.profile, "--set", f"seed={seed}", "--store", str(folder / f"seed-{seed}")]
        runs[str(seed)] = {"first": measured_run(arguments), "again": measured_run(arguments)}
        runs[str(seed)] |= {"date": datetime.now(UTC).date().isoformat()}
        runs[str(seed)] |= outcome(str(folder / f"seed-{seed}"))
        write(settings, smoke, runs)


if __name__ == "__main__":
    main()
