"""Where training loops leave their state: in a real store."""

import json
from pathlib import Path

import pytest
import torch

from dr_irl.artifacts.checkpoint import Checkpoint
from dr_irl.progress import Meter
from dr_irl.snapshot import Snapshot
from tasks.checkpoints import StoreCheckpoints
from tasks.orchestration.opening import open_store


class CountingMeter(Meter):
    """Adds up what it hears of."""

    total = 0

    def advance(self, units: int = 1, **readings: float) -> None:
        self.total += units

    def resume(self, units: int) -> None:
        self.total += units


@pytest.fixture
def kept_at(tmp_path: Path) -> Checkpoint:
    store = open_store(str(tmp_path / "store"))
    return store.checkpoint(store.ref("reward/insult", "f00d"))


def snapshot(step: int) -> Snapshot:
    return Snapshot(step=step, tensors={"weight": torch.full((2,), float(step))}, state={"losses": [0.5]})


def test_a_failure_leaves_the_state_before_it_and_says_where_its_batch_is(kept_at: Checkpoint, tmp_path: Path) -> None:
    checkpoints = StoreCheckpoints(kept_at, CountingMeter(), every=50, stopping=lambda: False)
    said = checkpoints.after_failure(lambda: snapshot(7), {"step": 7, "rewards": ["nan"]})
    kept = Path(said.removeprefix("its batch is in "))
    assert json.loads(kept.read_text()) == {"step": 7, "rewards": ["nan"]}
    meter = CountingMeter()
    found = StoreCheckpoints(kept_at, meter, every=50, stopping=lambda: False).load()
    assert found is not None and (found.step, meter.total) == (7, 7)
    assert torch.equal(found.tensors["weight"], torch.full((2,), 7.0))


@pytest.mark.parametrize(("step", "kept"), [(4, False), (5, True), (10, True)])
def test_a_snapshot_is_kept_every_so_many_steps(kept_at: Checkpoint, step: int, kept: bool) -> None:
    StoreCheckpoints(kept_at, CountingMeter(), every=5, stopping=lambda: False).after_step(step, lambda: snapshot(step))
    assert (kept_at.read() is not None) == kept


def test_a_snapshot_is_kept_at_once_when_the_run_is_asked_to_stop(kept_at: Checkpoint) -> None:
    StoreCheckpoints(kept_at, CountingMeter(), every=5, stopping=lambda: True).after_step(1, lambda: snapshot(1))
    assert kept_at.read() is not None
