"""Dependencies point one way, and nothing names a machine."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_method_and_its_stages_import_with_prefect_blocked() -> None:
    modules = [
        path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in TRACKED
        if re.match(r"(dr_irl/|tasks/(?!orchestration/|trl/)).*\.py$", path)
    ]
    code = f"import sys, importlib; sys.modules['prefect'] = None; [importlib.import_module(m) for m in {modules}]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_command_that_runs_nothing_imports_no_prefect() -> None:
    code = "import sys; sys.modules['prefect'] = None; sys.argv[0] = 'dr-irl'; from flows.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_committed_file_names_an_index_host_or_a_home_folder() -> None:
    forbidden = re.compile("py" + r"pi\.org|files\.pythonhosted|registry\.npmjs|/ro" + "ot/|/wo" + "rk/")
    named = [
        path
        for path in TRACKED
        if (ROOT / path).is_file() and forbidden.search((ROOT / path).read_text(encoding="utf-8", errors="ignore"))
    ]
    assert named == []
