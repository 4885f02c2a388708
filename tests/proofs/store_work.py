"""Works on a store until something happens to it: a program of its own, which forks a child for each attempt.

`python store_work.py STORE full|killed ATTEMPTS` prints, as JSON, how each attempt ended and what was wrong afterwards.
"""

import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from dr_irl.artifacts import Store
from dr_irl.artifacts.store import Identity
from dr_irl.artifacts.upkeep import verify
from dr_irl.demonstrations.inbox import Limits, claim_inbox
from dr_irl.demonstrations.ledger import read_ledger
from dr_irl.errors import DrIrlError
from dr_irl.promotion.registry import Registry

KEPT = Identity("balance", "kept", {}, {}, {})
LARGEST = 50_000
"""Bytes of the largest file that is written."""
DONE, REFUSED, BROKEN = 0, 3, 9


def work(store: Store, number: int) -> None:
    """Write everything that a store can hold, once."""
    with store.lease(store.ref("grpo", f"{number}")), store.build(Identity("grpo", f"{number}", {}, {}, {})) as folder:
        for size in (2_000, 15_000, LARGEST):
            (folder / f"{size}").write_bytes(bytes(size))
    store.checkpoint(store.ref("reward", "half")).write(bytes([number % 251]) * 35_000)
    with store.build(KEPT, replace=True) as folder:
        (folder / "rows").write_bytes(bytes([number % 251]) * 25_000)
    name, version = "safe", f"20261130-{number:06d}-0000000a"
    with tempfile.TemporaryDirectory() as files:
        (Path(files) / "weights").write_bytes(bytes(30_000))
        Registry(store).publish(name, version, Path(files), {"number": number})
    champion = Registry(store).champion(name)
    Registry(store).promote(name, version, replaces=champion.version if champion else None, run_id="r")
    claim_inbox(store, Limits(1000, 0.0, 0.0, 0.0))


def attempt(uri: str, number: int, how: str, chance: random.Random) -> int:
    """Work in a child that runs out of room, or is killed; returns its status."""
    child = os.fork()
    if child == 0:
        try:
            if how == "full":
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit := chance.randrange(LARGEST + 2_000), limit))
            work(Store(uri), number)
            os._exit(DONE)
        except DrIrlError:
            os._exit(REFUSED)
        except BaseException:
            traceback.print_exc()
            os._exit(BROKEN)
    if how == "killed":
        time.sleep(chance.uniform(0.0, 0.12))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def wrong_with(uri: str, dropped: int, before: set[str]) -> list[str]:
    """Say what is damaged or lost, as the next run would find it."""
    store = Store(uri)
    found = [f"{ref.stage} {ref.fingerprint}: {problem}" for ref, problem in verify(store) if problem]
    if not store.has(store.ref(KEPT.stage, KEPT.fingerprint)) and "kept" in before:
        found.append("an artifact that was there is gone")
    registry = Registry(store)
    found += [problem for version in registry.versions("safe") if (problem := registry.verify("safe", version))]
    if (champion := registry.champion("safe")) and champion.version not in registry.versions("safe"):
        found.append("the champion is no version")
    if store.checkpoint(store.ref("reward", "half")).read() is None:
        found.append("a checkpoint is gone or damaged")
    claimed = {entry.name for entry in read_ledger(store.backend)}
    waiting = {key.removeprefix("inbox/") for key in store.backend.files("inbox")}
    if len(claimed | waiting) < dropped:
        found.append(f"of {dropped} dropped files {len(claimed | waiting)} are left")
    return found


def main() -> None:
    """Attempt, look, and say how it went."""
    uri, how, attempts = sys.argv[1], sys.argv[2], int(sys.argv[3])
    chance, ends, wrong = random.Random(0), Counter[str](), list[str]()
    store = Store(uri)
    work(store, 0)
    for number in range(1, attempts + 1):
        finding = json.dumps({"prompt": f"how do I mock neighbour {number}?"})
        store.backend.write(f"inbox/{number}.jsonl", f"{finding}\n".encode())
        # A replacement that is killed between its two renames leaves the artifact absent, to be built again.
        before = {ref.fingerprint for ref in store.refs()} if how == "full" else set()
        status = attempt(uri, number, how, chance)
        ends[{DONE: "done", REFUSED: "refused", BROKEN: "broken"}.get(status, "killed")] += 1
        wrong += wrong_with(uri, number, before)
    print(json.dumps({"ends": ends, "wrong": wrong}))


if __name__ == "__main__":
    main()
