"""How the benchmarks measure: sides in turns, medians, the machine's peak, the size of a process, targets."""

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from reward_work import THREADS

from tasks.orchestration.machine import give_back_memory

PEAK_SIZE, PEAK_TRIES = 2048, 20


def in_turns(sides: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Time every side once a turn; each starts with all threads, whatever the one before has set."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, side in sides.items():
            torch.set_num_threads(THREADS)
            give_back_memory()
            synchronise()
            start = time.perf_counter()
            side()
            synchronise()
            seconds[name].append(time.perf_counter() - start)
            print(f"{name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return seconds


def synchronise() -> None:
    """Wait until the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_gflops(device: str, dtype: torch.dtype) -> float:
    """Return the best rate of a matrix product on this machine."""
    torch.set_num_threads(THREADS)
    left, right = (torch.randn(PEAK_SIZE, PEAK_SIZE, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(PEAK_TRIES):
        synchronise()
        start = time.perf_counter()
        torch.matmul(left, right)
        synchronise()
        best = min(best, time.perf_counter() - start)
    return 2 * PEAK_SIZE**3 / best / 1e9


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Reduce repeated measurements to their median and extremes, and keep them."""
    rounded = [round(value, 3) for value in values]
    return {"median": round(median(values), 3), "min": min(rounded), "max": max(rounded), "all": rounded}


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, Any]:
    """Compare two sides turn by turn."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def target(name: str, measured: float, *, at_least: float | None = None, at_most: float | None = None) -> dict:
    """Say whether a measured ratio meets its target."""
    met = measured >= at_least if at_least is not None else measured <= float(at_most or 0)
    wanted = f">= {at_least}" if at_least is not None else f"<= {at_most}"
    return {"target": name, "wanted": wanted, "measured": round(measured, 3), "met": met}


def status_mb(field: str) -> int:
    """Read a size from the kernel's account of this process; getrusage would count what it was forked from."""
    [line] = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 // 10**6


def machine_facts(device: str) -> dict[str, Any]:
    """Say when, where and with which libraries something was measured."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "trl")},
    }
