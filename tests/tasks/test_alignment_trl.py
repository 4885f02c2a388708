"""GRPO with TRL as a stage: the files it writes, in one process and in two, and how it ends when it cannot go on."""

import logging
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
import torch
from tiny_panel import NAME, write_panel

from dr_irl.categories import BENIGN
from dr_irl.errors import DrIrlError, InterruptedRunError
from dr_irl.language.adapters import load_policy_adapter
from dr_irl.language.load import load_causal_lm
from dr_irl.profile import load_settings
from dr_irl.records import Example, Hardness, ScalingRecord, StepRecord
from tasks.alignment_trl import align_with_trl, launch_command
from tasks.contents import ADAPTER, EXAMPLES, HARDNESS, SCALING, STEPS
from tasks.job import Inputs, Job

LABELS = ("insult", "crimes", BENIGN)
FOR_TRL = {
    "alignment.trainer": "grpo-trl",
    "hardness.source": "reference",
    "grpo.top_up": 0,
    "grpo.minibatches": 1,
    "grpo.min_entropy": 0.0,
}
RESULTS = [ADAPTER, SCALING, STEPS]


@dataclass
class Folders:
    """Inputs that lie where the test wrote them."""

    root: Path

    def folder(self, name: str) -> Path:
        return self.root / name

    def __contains__(self, name: str) -> bool:
        return (self.root / name).exists()


class Watcher:
    """Keeps what progress it hears of; can have had enough after some steps."""

    def __init__(self, stop_after: int = 10**6, before_stop: Callable[[], list[psutil.Process]] = list) -> None:
        self.heard: list[dict[str, float]] = []
        self.seen: list[psutil.Process] = []
        self.stop_after, self.before_stop = stop_after, before_stop

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager["Watcher"]:
        return nullcontext(self)

    def advance(self, units: int = 1, **readings: float) -> None:
        self.heard.append(readings)
        if len(self.heard) >= self.stop_after:
            self.seen = self.before_stop()
            raise InterruptedRunError("stopped")

    def resume(self, units: int) -> None:
        raise AssertionError("TRL's engine keeps no checkpoints")


def write_inputs(root: Path) -> None:
    for part in ("balance", "hardness"):
        (root / part).mkdir()
    examples = [
        Example(f"{c}-{row}", f"{c} {row}", c, "seed", "train", (), "No.", None) for c in LABELS for row in range(3)
    ]
    Example.write(examples, root / "balance" / EXAMPLES)
    harmful = [example for example in examples if example.category != BENIGN]
    Hardness.write(
        [Hardness(e.id, str(e.category), 0, 0.1 * row) for row, e in enumerate(harmful)], root / "hardness" / HARDNESS
    )
    write_panel(root / "panel", LABELS)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inputs")
    write_inputs(root)
    return root


def align(inputs: Path, folder: Path, watcher: Watcher, **changes: Any) -> None:
    given = {name.replace("__", "."): value for name, value in changes.items()}
    settings = load_settings("smoke", FOR_TRL | given)
    job = Job(settings, cast(Inputs, Folders(inputs)), "", watcher, cast(Any, None))
    align_with_trl(folder, job)


@dataclass
class Aligned:
    """A run that ended well."""

    folder: Path
    watcher: Watcher

    @property
    def steps(self) -> list[StepRecord]:
        return StepRecord.read(self.folder / STEPS)

    @property
    def scaling(self) -> list[ScalingRecord]:
        return ScalingRecord.read(self.folder / SCALING)


@pytest.fixture(scope="module")
def aligned(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Aligned:
    found = Aligned(tmp_path_factory.mktemp("aligned"), Watcher())
    align(inputs, found.folder, found.watcher, grpo__iterations=2, grpo__minibatches=2)
    return found


@pytest.fixture(scope="module")
def by_two(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Aligned:
    found = Aligned(tmp_path_factory.mktemp("by-two"), Watcher())
    align(inputs, found.folder, found.watcher, alignment__num_processes=2)
    return found


def workers(scratch: Path) -> list[psutil.Process]:
    """Processes that train a job which lies there."""
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if any(str(scratch) in part for part in process.info["cmdline"] or [])]


def test_the_files_of_the_native_stage_are_written(aligned: Aligned) -> None:
    assert sorted(path.name for path in aligned.folder.iterdir()) == RESULTS


def test_adapter_loads_as_a_policy(aligned: Aligned) -> None:
    policy = load_policy_adapter(load_causal_lm(NAME, dtype=torch.float32), aligned.folder / ADAPTER)
    assert any(bool(weights.any()) for name, weights in policy.named_parameters() if "lora_B.policy" in name)


def test_adapter_of_the_reference_is_not_written(aligned: Aligned) -> None:
    assert [path.name for path in (aligned.folder / ADAPTER).iterdir() if path.is_dir()] == []


def test_every_step_is_reported(aligned: Aligned) -> None:
    assert [sorted(heard) for heard in aligned.watcher.heard] == [["benign_refusal", "kl", "refusal", "reward"]] * 3


def test_each_step_is_logged_under_our_names(aligned: Aligned) -> None:
    once = {r.name for r in aligned.steps if r.category == "all"}
    assert {"loss", "kl", "entropy", "clipped", "grad_norm", "reward", "gap", "refusal", "length_tokens"} <= once


def test_steps_are_ours_not_trls_updates(aligned: Aligned) -> None:
    assert {record.step for record in aligned.steps} == {record.step for record in aligned.scaling} == {0, 1, 2}


def test_prompts_are_those_of_the_schedule(aligned: Aligned) -> None:
    first = [record.category for record in aligned.scaling if record.step == 0]
    assert first == ["crimes", "insult", BENIGN, BENIGN]


def test_the_first_batch_finds_the_policy_at_its_reference(inputs: Path, tmp_path: Path) -> None:
    align(inputs, tmp_path, Watcher(), grpo__steps=1)
    (kl,) = [record.value for record in StepRecord.read(tmp_path / STEPS) if record.name == "kl"]
    assert kl == pytest.approx(0.0, abs=1e-7)


def test_a_collapse_stops_the_run(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(DrIrlError, match="GRPO stopped at step 0: the policy's entropy"):
        align(inputs, tmp_path, Watcher(), grpo__alarm="stop", grpo__min_entropy=100.0)


def test_a_collapse_is_logged_where_it_does_not_stop(
    inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        align(inputs, tmp_path, Watcher(), grpo__steps=1, grpo__min_entropy=100.0)
    assert "GRPO step 0: the policy's entropy" in caplog.text


@pytest.mark.slow
def test_two_processes_write_the_same_files(by_two: Aligned) -> None:
    assert sorted(path.name for path in by_two.folder.iterdir()) == RESULTS


@pytest.mark.slow
def test_two_processes_share_the_completions_of_a_step(by_two: Aligned) -> None:
    assert [(r.step, r.category) for r in by_two.scaling][:4] == [(0, c) for c in ("crimes", "insult", BENIGN, BENIGN)]


@pytest.mark.slow
def test_two_processes_report_their_progress(by_two: Aligned) -> None:
    assert [sorted(heard) for heard in by_two.watcher.heard] == [["benign_refusal", "kl", "refusal", "reward"]] * 3


@pytest.mark.slow
def test_a_failed_process_says_why(inputs: Path, tmp_path: Path) -> None:
    stop = {"grpo__alarm": "stop", "grpo__min_entropy": 100.0}
    with pytest.raises(DrIrlError, match=r"one of 2 TRL processes \(exit status 1\): GRPO stopped at step 0"):
        align(inputs, tmp_path, Watcher(), alignment__num_processes=2, **stop)


@pytest.mark.slow
def test_a_stopped_run_leaves_no_process(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    watcher = Watcher(stop_after=1, before_stop=lambda: workers(tmp_path))
    with pytest.raises(InterruptedRunError):
        align(inputs, tmp_path, watcher, alignment__num_processes=2, grpo__steps=1000)
    assert len(watcher.seen) == 3  # a launcher and two workers
    assert psutil.wait_procs(watcher.seen, timeout=10)[1] == []


@pytest.mark.parametrize(
    ("device", "launcher"), [("cpu", "torch.distributed.run"), ("cuda", "accelerate.commands.launch")]
)
def test_processes_are_started_by_the_launcher_of_their_device(device: str, launcher: str) -> None:
    settings = load_settings("smoke", FOR_TRL | {"models.device": device, "alignment.trainer": "grpo-trl"})
    assert launch_command(settings, Path("job.json"))[2] == launcher
