"""Reloads a saved panel where nothing of its training is left: `python -m dr_irl.reward.verify FOLDER`.

A head that was never saved is still in the memory of the process that trained it. Only a new one can tell.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from dr_irl.errors import DrIrlError, ModelError
from dr_irl.reward.panel import RewardPanel


def verify_in_new_process(folder: Path, *, device: str) -> None:
    """Load the panel in a new process, which compares its scores of fixed texts with those at saving.

    Raises:
        ModelError: a head is missing or untrained, or a score is another.
    """
    command = [sys.executable, "-m", __name__, str(folder), "--device", device]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"]
        raise ModelError(f"the reward models do not survive being saved: {said[-1]}")


def main() -> None:
    """Load the panel; say in a sentence what is wrong with it."""
    parser = argparse.ArgumentParser(description="Reloads a saved panel where nothing of its training is left.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    try:
        RewardPanel.load(options.folder, device=options.device)
    except DrIrlError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
