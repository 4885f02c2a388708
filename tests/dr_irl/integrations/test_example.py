"""The example that the documents point to: short, and it runs as written."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_panel import write_panel

EXAMPLE = Path(__file__).parents[3] / "examples" / "trl_grpo.py"
LABELS = ("insult", "physical_harm", "benign")


def test_example_has_at_most_forty_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 40


@pytest.mark.parametrize("named", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_example_trains_two_steps(tmp_path: Path, named: bool) -> None:
    """With a panel that is named, and with the one that a run left in the store of its folder."""
    panel = tmp_path / "store" / "objects" / "panel" / "f00d"
    write_panel(panel, LABELS)
    command = [sys.executable, str(EXAMPLE), *([str(panel)] if named else [])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    logged = [ast.literal_eval(line) for line in done.stdout.splitlines() if line.startswith("{'loss'")]
    assert len(logged) == 2 and all("scaling/alpha/mean" in entry for entry in logged)
