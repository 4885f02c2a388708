"""What commands say of an address with a slip: at once, in one sentence, and without the secret that it may hold."""

import subprocess
import sys
from pathlib import Path

import pytest

SECRET = "planted/secret+0123456789"
COMMAND = """
import sys
from flows.cli import main

try:
    main()
finally:
    print({"torch", "prefect", "transformers", "s3fs"} & set(sys.modules))
"""


def dr_irl(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; the last line of its standard output names what heavy libraries it has imported."""
    command = [sys.executable, "-c", COMMAND, *arguments]
    given = {"PATH": "", "COLUMNS": "200", "PYTHONPATH": str(Path(__file__).parents[3]), "HOME": str(folder)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, env=given | environment)


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs", "--store", f"s3:/KEY:{SECRET}@bucket"],
        ["run", "--profile", "smoke", "--dry-run", "--store", f"s3:/KEY:{SECRET}@bucket"],
        ["run", "--profile", "smoke", "--output", f"s3:/KEY:{SECRET}@bucket"],
        ["plan", "--profile", "smoke", "--set", f"models.policy=s3://KEY:{SECRET}@bucket/model"],
        ["plan", "--profile", "smoke", "--set", f"sources.files=[seed, 's3:/KEY:{SECRET}@bucket/f.jsonl']"],
        ["evaluate", f"s3:/KEY:{SECRET}@bucket", "--profile", "smoke"],
        ["score", f"s3:/KEY:{SECRET}@bucket/rows.jsonl"],
        ["score", "--output", f"s3:/KEY:{SECRET}@bucket/rows.jsonl"],
        ["score", "rows.jsonl", "--panel", f"s3:/KEY:{SECRET}@bucket/panel"],
    ],
)
def test_every_command_tells_a_slip_at_once_and_makes_nothing(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "response": "b", "category": "insult"}\n')
    run = dr_irl(tmp_path, *arguments)
    assert (run.returncode, run.stderr.count("\n")) == (2, 1), run.stderr
    assert "secret" not in run.stderr + run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_an_endpoint_without_a_scheme_is_told_by_the_command(tmp_path: Path) -> None:
    run = dr_irl(tmp_path, "runs", "--store", "s3://bucket/run", AWS_ENDPOINT_URL="localhost:9000")
    expected = "dr-irl: AWS_ENDPOINT_URL is 'localhost:9000', which is no address of a server; write scheme, host and"
    assert (run.returncode, run.stderr.startswith(expected), run.stderr.count("\n")) == (2, True, 1), run.stderr
