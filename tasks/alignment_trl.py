"""Stage 3 with TRL: the same inputs and the same files as `tasks.alignment`, trained by TRL in one process or several.

Not the same bits: TRL samples with other random numbers. A stopped run starts over.
"""

import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, cast

from dr_irl.config import Settings
from dr_irl.errors import DrIrlError, UserError
from dr_irl.language.adapters import POLICY, save_adapter
from tasks.alignment import fresh_policy, training_prompts
from tasks.contents import ADAPTER
from tasks.job import Job
from tasks.models import base_policy
from tasks.reward import panel_folders
from tasks.trl.job import ERROR_FILES, PROGRESS, Report, TrlJob

logger = logging.getLogger(__name__)

_SECONDS_TO_END = 60.0  # a launcher gives its processes 30
_LINES_OF_ERROR = 20


def align_with_trl(folder: Path, job: Job) -> None:
    """Align the policy with TRL's trainer.

    Raises:
        UserError: TRL is not installed.
        DrIrlError: a process failed.
    """
    settings = job.settings
    if importlib.util.find_spec("trl") is None:
        raise UserError("alignment.trainer = grpo-trl needs TRL; install it: pip install 'dr-irl[trl]'")
    with (
        tempfile.TemporaryDirectory(prefix="dr-irl-trl-") as scratch,
        job.progress.stage("GRPO", settings.grpo.steps, "steps") as meter,
    ):
        trl_job = TrlJob(
            settings=settings,
            prompts=tuple(training_prompts(job.inputs)),
            panel=panel_folders(job),
            start=_starting_adapter(job, Path(scratch)),
            folder=folder,
        )

        def report(readings: dict[str, float]) -> None:
            meter.advance(1, **readings)

        if settings.alignment.num_processes > 1:
            launch(trl_job, Path(scratch), report)
            return
        from tasks.trl.training import train  # imports TRL, which takes seconds

        train(trl_job, report)


def launch(job: TrlJob, scratch: Path, report: Report) -> None:
    """Train in processes of their own, which end with this call, however it ends."""
    path, errors = scratch / "job.json", scratch / "stderr.txt"
    path.write_text(job.model_dump_json())
    processes = job.settings.alignment.num_processes
    threads = str(max(1, job.settings.threads // processes))
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            launch_command(job.settings, path),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": threads},
            start_new_session=True,
        )
        try:
            _follow(process, report)
            status = process.wait()
        finally:
            _end(process)
    if status:
        said = min(scratch.glob(ERROR_FILES), key=lambda file: file.stat().st_mtime, default=errors)
        last = "\n".join(said.read_text().splitlines()[-_LINES_OF_ERROR:])
        raise DrIrlError(f"GRPO failed in one of {processes} TRL processes (exit status {status}): {last}")


def launch_command(settings: Settings, path: Path) -> list[str]:
    """Return the command that starts the processes: on GPUs as `accelerate config` says, on CPUs torch's launcher.

    On CPUs accelerate needs MPI, and starts one process without it.
    """
    processes, worker = str(settings.alignment.num_processes), ["tasks.trl.worker", str(path)]
    if settings.models.device == "cpu":
        options = ["torch.distributed.run", "--standalone", "--nproc_per_node", processes]
    else:
        options = ["accelerate.commands.launch", "--num_processes", processes, "--main_process_port", "0"]
    return [sys.executable, "-m", *options, "-m", *worker]


def _follow(process: subprocess.Popen[str], report: Report) -> None:
    """Report the lines that tell of a step, and log the others, until there are no more."""
    for line in cast(IO[str], process.stdout):
        if line.startswith(PROGRESS):
            report(json.loads(line.removeprefix(PROGRESS)))
        elif line.strip():
            logger.info("TRL: %s", line.rstrip())


def _end(process: subprocess.Popen[str]) -> None:
    """End the launcher if it still runs; it ends its processes when asked to."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _starting_adapter(job: Job, scratch: Path) -> Path:
    """Return the folder of the adapter that our own loop would start from: one that was trained, or a fresh one."""
    if "start" in job.inputs:
        return job.inputs.folder("start") / ADAPTER
    policy = fresh_policy(base_policy(job.settings)[0], job.settings)
    save_adapter(policy, POLICY, scratch / "start")
    return scratch / "start"
