"""What the flow does before its tasks run in threads."""

import subprocess
import sys
from pathlib import Path

FIRST_TASK = """
import sys
from dr_irl.artifacts import Store
from dr_irl.profile import load_settings
from flows import pipeline
from tasks.dag import build_dag, select
from tasks.identify import identify

def say(stage):
    makers = [node.stage.make.partition(":")[0] for node in dag.values()]
    print(sorted(set(makers) - set(sys.modules)))
    sys.exit()

settings = load_settings("smoke")
dag = build_dag(settings)
pipeline.stage_task = say
store = Store(sys.argv[1])
pipeline._run(dag, select(dag), settings, store, identify(dag, settings, store))
"""


def test_what_is_to_be_built_is_imported_before_the_first_task(tmp_path: Path) -> None:
    # Two threads that import transformers at the same moment find half of it missing.
    done = subprocess.run(
        [sys.executable, "-c", FIRST_TASK, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"
