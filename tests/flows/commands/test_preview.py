"""What a run says before it starts."""

import subprocess
import sys

from dr_irl.profile import load_settings
from flows.commands.preview import preview


def test_the_plan_counts_the_completions_that_will_be_sampled() -> None:
    settings = load_settings("smoke", {"completions.prompts_per_category": 5})
    assert "4 completions          80 of up to 8 tokens" in preview(settings, "store")  # (7 x 5 + 5) x 2


def test_the_plan_without_a_limit_counts_every_training_prompt() -> None:
    settings = load_settings("smoke", {"completions.prompts_per_category": None})
    assert "4 completions          100 of up to 8 tokens" in preview(settings, "store")  # (7 x 6 + 8) x 2


def test_the_plan_needs_no_heavy_import() -> None:
    code = (
        "import sys; from dr_irl.profile import load_settings; from flows.commands.preview import preview; "
        "preview(load_settings('demo'), 'store'); print({'torch', 'prefect', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
