"""What a stage looks up by its name counts for what it makes: the name, and the code that it stands for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from outside_package import install

from dr_irl.artifacts import modules
from dr_irl.errors import SettingsError
from dr_irl.evaluation.judges import JUDGES
from dr_irl.profile import load_settings
from dr_irl.registry import Registry
from tasks import stages
from tasks.stages import Stage

STRICT = "def strict(prompt, answer):\n    return 'no' in answer\n"


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages; what is installed there is found until the test is over."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    forget()


def forget() -> None:
    """Read everything anew, as a new process does."""
    JUDGES.__dict__.pop("entries", None)
    for cached in (stages.code_of, stages._code, modules.source_file, modules.source_text):
        cached.cache_clear()


def reads(stage: Stage, **settings: Any) -> Any:
    found = load_settings("smoke", {name.replace("__", "."): value for name, value in settings.items()})
    return stage.reads(found, "insult")


USERS = [stages.REWARD, stages.JOINT_REWARD, stages.PANEL_REPORT, stages.GRPO, stages.TRL_GRPO, stages.EVALUATION]


@pytest.mark.parametrize("stage", USERS)
def test_the_judge_counts_by_name_and_code_where_it_is_asked(outside: Path, stage: Stage) -> None:
    install(outside, "strict_judges", STRICT, {"dr_irl.judges": {"strict": "strict_judges:strict"}})
    forget()
    before = reads(stage, judge="strict")
    assert before["judge"]["name"] == "strict" and list(before["judge"]["code"]) == ["strict_judges"]
    assert before["judge"] != reads(stage)["judge"]
    (outside / "strict_judges.py").write_text(STRICT.replace("'no'", "'never'"))
    forget()
    after = reads(stage, judge="strict")
    assert {name for name in after if after[name] != before[name]} == {"judge"}


def test_the_judge_counts_for_demonstrations_that_it_checks() -> None:
    assert "judge" not in reads(stages.BALANCE)
    assert reads(stages.BALANCE, demonstrations__generator="policy")["judge"]["name"] == "wording"


@pytest.mark.parametrize("entry", ["no_such_module:x", "dr_irl.evaluation.judges.wording:x"])
def test_a_name_without_code_is_told_before_anything_is_built(entry: str) -> None:
    with pytest.raises(SettingsError, match=f"judge 'odd' is {entry}, but there is no such definition: .*name the mod"):
        stages.named(Registry("judge", "dr_irl.none", {"odd": entry}), "odd")
