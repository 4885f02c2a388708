"""What a stage looks up by its name counts for what it makes: the name, and the code that it stands for."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from outside_package import install

from dr_irl.artifacts import modules
from dr_irl.artifacts.store import Identity
from dr_irl.errors import SettingsError
from dr_irl.evaluation.judges import JUDGES
from dr_irl.profile import load_settings
from tasks import stages
from tasks.stages import Stage
from tasks.trainers import TRAINERS

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


def identity(stage: Stage, settings: Mapping[str, str]) -> Identity:
    return stage.identity(load_settings("smoke", settings), "insult", {})


GENERATING = {"demonstrations.generator": "policy"}
USERS = [stages.REWARD, stages.JOINT_REWARD, stages.PANEL_REPORT, stages.EVALUATION]
USERS += [TRAINERS[name].stage for name in ("grpo", "grpo-trl")]


@pytest.mark.parametrize("stage", [*USERS, stages.BALANCE])
def test_the_judge_counts_by_name_and_code_where_it_is_asked(outside: Path, stage: Stage) -> None:
    install(outside, "strict_judges", STRICT, {"dr_irl.judges": {"strict": "strict_judges:strict"}})
    forget()
    before = identity(stage, GENERATING | {"judge": "strict"})
    assert before.settings["judge"] == "strict" and "strict_judges" in before.source
    assert before.fingerprint != identity(stage, GENERATING).fingerprint
    (outside / "strict_judges.py").write_text(STRICT.replace("'no'", "'never'"))
    forget()
    after = identity(stage, GENERATING | {"judge": "strict"})
    assert {name for name in after.source if after.source[name] != before.source.get(name)} == {"strict_judges"}


def test_the_judge_counts_for_demonstrations_whose_refusals_it_checks() -> None:
    assert identity(stages.BALANCE, {}).settings["judge"] == "wording"


@pytest.mark.parametrize("entry", ["no_such_module:x", "dr_irl.evaluation.judges.wording:x"])
def test_a_name_without_code_is_told_before_anything_is_built(outside: Path, entry: str) -> None:
    install(outside, "odd_judges", "", {"dr_irl.judges": {"odd": entry}})
    forget()
    with pytest.raises(SettingsError, match="evaluation cannot be made: cannot fingerprint .*; an entry point names"):
        identity(stages.EVALUATION, {"judge": "odd"})
