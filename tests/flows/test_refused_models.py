"""Models whose template or files a run cannot use: one sentence before the first stage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dr_irl.language.resolve import resolve_model

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
SWITCHED = TURNS + (
    "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking|default(true) %}<think>\n{% endif %}{% endif %}"
)


def with_template(folder: Path, template: str) -> None:
    shutil.copytree(resolve_model("bundled:tiny-random-lm"), folder)
    (folder / "chat_template.jinja").write_text(template)


def adapter(folder: Path) -> None:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "its/base"}))


@pytest.mark.parametrize(
    ("write", "settings", "sentence"),
    [
        pytest.param(
            lambda folder: with_template(folder, SWITCHED),
            [],
            "opens a thought in every prompt, and answers would land in it; set models.template_arguments to "
            "{enable_thinking: false}, which keeps it from that",
            id="a thought",
        ),
        pytest.param(
            lambda folder: with_template(folder, SWITCHED),
            ["--set", "models.template_arguments={thinking: false}"],
            "reads no thinking; its variables are: enable_thinking",
            id="an argument",
        ),
        pytest.param(
            lambda folder: shutil.copytree(resolve_model("bundled:tiny-random-lm"), folder),
            ["--set", "evaluation.max_new_tokens=100000"],
            "evaluation.max_new_tokens = 100000: the context of",
            id="answers beyond the context",
        ),
        pytest.param(adapter, [], "is an adapter, not a model; name its base model, its/base,", id="an adapter"),
    ],
)
def test_a_model_that_cannot_be_used_is_refused_in_a_sentence(
    write: Callable[[Path], object],
    settings: list[str],
    sentence: str,
    tmp_path: Path,
    make_dr_irl: Any,
    prefect_api: str,
) -> None:
    write(tmp_path / "model")
    run = make_dr_irl(prefect_api).run(
        *("run", "--profile", "smoke", "--store", str(tmp_path / "store"), *settings),
        *("--set", f"models.policy={tmp_path / 'model'}"),
    )
    assert (run.wait(), len(run.sentences())) == (2, 1), run.err
    assert sentence in run.sentences()[0]
    assert not list((tmp_path / "store").glob("objects/*"))
