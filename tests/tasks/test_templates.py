"""What a chat template is given, in the stages: it counts where prompts are rendered, and reaches what renders them."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from dr_irl.language.chat import prompt_ids
from dr_irl.language.resolve import resolve_model
from dr_irl.profile import load_settings
from dr_irl.records import Completion
from tasks import stages
from tasks.contents import COMPLETIONS, texts_by_prompt
from tasks.models import policy_tokenizer
from tasks.stages import Stage
from tasks.trainers import TRAINERS

RENDERING = [stages.BALANCE, stages.WARM_START, stages.COMPLETIONS, stages.REWARD, stages.JOINT_REWARD]
RENDERING += [stages.PANEL, stages.PANEL_REPORT, stages.EVALUATION, *(trainer.stage for trainer in TRAINERS.values())]
CHANGES = [{"models.template_arguments": "{mood: calm}"}, {"models.template_date": "2031-01-02"}]


def fingerprint(stage: Stage, settings: dict[str, str]) -> str:
    return stage.identity(load_settings("smoke", settings), "insult", {}).fingerprint


@pytest.mark.parametrize("stage", RENDERING, ids=lambda stage: stage.make)
@pytest.mark.parametrize("change", CHANGES, ids=["arguments", "date"])
def test_what_a_template_is_given_counts_where_prompts_are_rendered(stage: Stage, change: dict[str, str]) -> None:
    assert fingerprint(stage, {}) != fingerprint(stage, change)


@pytest.mark.parametrize("stage", [stages.SOURCES, stages.ROUTE, stages.HARDNESS])
@pytest.mark.parametrize("change", CHANGES, ids=["arguments", "date"])
def test_it_counts_nowhere_else(stage: Stage, change: dict[str, str]) -> None:
    assert fingerprint(stage, {}) == fingerprint(stage, change)


def test_what_is_published_renders_without_being_told(tmp_path: Path) -> None:
    base = resolve_model("bundled:tiny-random-lm")
    copy = tmp_path / "model"
    copy.mkdir()
    for path in base.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    template = copy / "chat_template.jinja"
    template.write_text("<|system|>{{ strftime_now('%Y') }}{{ mood }}<|end|>" + template.read_text())
    settings = {"models.policy": str(copy), **CHANGES[0], **CHANGES[1]}
    tokenizer = policy_tokenizer(load_settings("smoke", settings))
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    published = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    turns = [{"role": "user", "content": "hi"}]
    said = published.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert said == prompt_ids(tokenizer, ["hi"])[0]
    assert "2031calm" in published.decode(said)


def test_completions_are_read_without_the_thoughts_that_the_table_keeps(tmp_path: Path) -> None:
    said = ["<think>hm</think>No.", "<think>hm", "No."]
    rows = [Completion("p", index, text, 3, False) for index, text in enumerate(said)]
    Completion.write(rows, tmp_path / COMPLETIONS)
    assert texts_by_prompt(tmp_path) == {"p": ["No.", "", "No."]}
    assert [row.text for row in Completion.read(tmp_path / COMPLETIONS)] == said
