"""Settings: every mistake is answered with the value seen and what is allowed."""

import re
from contextlib import suppress
from pathlib import Path

import pytest

from dr_irl.config import Settings
from dr_irl.errors import SettingsError
from dr_irl.profile import load_settings, parse_overrides
from dr_irl.section import Section


def problem(*assignments: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings("smoke", parse_overrides(list(assignments)))
    return str(caught.value)


def profile(folder: Path, text: str | bytes) -> str:
    path = folder / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_an_override_changes_its_setting_only() -> None:
    before, after = load_settings("smoke"), load_settings("smoke", {"grpo.steps": 20})
    assert after == before.model_copy(update={"grpo": before.grpo.model_copy(update={"steps": 20})})


def test_text_is_read_as_yaml() -> None:
    assert load_settings("smoke", {"scaling.clip": "[0.5, 2]"}).scaling.clip == (0.5, 2.0)


def test_a_number_without_a_point_before_its_exponent_is_a_number() -> None:
    # YAML 1.1 reads 1e-3 as text
    assert load_settings("smoke", parse_overrides(["scaling.tau=1e-3"])).scaling.tau == 0.001


def test_quotes_keep_digits_text() -> None:
    settings = load_settings("smoke", parse_overrides(['models.policy_revision="123"']))
    assert settings.models.policy_revision == "123"


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings("smoke").grpo.steps = 3


def test_a_file_is_a_profile_named_after_it(tmp_path: Path) -> None:
    text = load_settings("smoke").model_dump_json(exclude={"profile"})  # JSON is YAML
    assert load_settings(profile(tmp_path, text)).profile == "mine"


def test_a_profile_that_extends_another_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    mine, smoke = load_settings(profile(tmp_path, "extends: smoke\ngrpo:\n  steps: 20\n")), load_settings("smoke")
    assert mine == smoke.model_copy(update={"profile": "mine", "grpo": smoke.grpo.model_copy(update={"steps": 20})})


def test_a_profile_may_extend_one_that_extends_another(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("extends: smoke\nseed: 1\n")
    mine = load_settings(profile(tmp_path, "extends: first.yaml\nthreads: 2\n"))  # seen from the file, not from here
    assert (mine.seed, mine.threads, mine.grpo) == (1, 2, load_settings("smoke").grpo)


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("smokey", r"profile '.*/smokey' is unknown; allowed are smoke"),
        ("[smoke]", r"extends = \['smoke'\]; give smoke, "),
        ("{tmp_path}/mine.yaml", r"extends itself: .*mine.yaml -> .*mine.yaml"),
    ],
)
def test_a_base_that_cannot_be_extended_is_told(base: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=sentence):
        load_settings(profile(tmp_path, f"extends: {base.format(tmp_path=tmp_path)}\n"))


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("grpo.stepz=5", r"setting 'grpo.stepz' is unknown; allowed here: steps, .*group_size"),
        ("nope.steps=5", r"setting 'nope' is unknown; allowed here: .*grpo"),
        ("grpo.steps=many", r"setting grpo.steps = 'many': a whole number is needed"),
        ("grpo.steps=2.5", r"setting grpo.steps = 2.5: a whole number"),
        ("grpo.steps=0", r"setting grpo.steps = 0: more than 0 is allowed"),
        ("grpo.learning_rate=.nan", r"setting grpo.learning_rate = nan: a number is needed"),
        ("scaling.combine=max", r"setting scaling.combine = 'max': .*'product', 'sum', 'data', 'model' or 'none'"),
        ("models.device=tpu", r"setting models.device: 'tpu' is none; allowed are cpu, cuda and cuda:N"),
        ("grpo=5", r"setting grpo = 5: a section of named settings is needed"),
        ("grpo.steps.x=5", r"setting 'grpo.steps.x': 'steps' is a value, not a section"),
        ("reward.adapted_layers=9", r"setting reward: adapted_layers = 9 must not exceed depth = 2"),
        ("scaling.clip=[1]", r"setting scaling.clip = \[1\]: item 1 is missing"),
        ("scaling.clip=[1,-2]", r"setting scaling.clip.1 = -2: more than 0 is allowed"),
    ],
)
def test_a_mistake_is_named_with_its_value_and_what_is_allowed(assignment: str, sentence: str) -> None:
    assert re.match(sentence, problem(assignment))


def test_a_setting_of_two_types_is_explained_in_one_line_by_its_plain_name() -> None:
    assert problem("scaling.tau=x") == ("setting scaling.tau = 'x': a number is needed, or allowed is 'mad'")


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("sources.files=a.jsonl", "setting sources.files = 'a.jsonl': a list is needed; write [a.jsonl]"),
        ("sources.files=[]", "setting sources.files = []: 1 or more items are needed"),
        ("grpo.steps=2.5", "setting grpo.steps = 2.5: a whole number is needed"),
        ("grpo.steps=many", "setting grpo.steps = 'many': a whole number is needed"),
        ("grpo.clip=1", "setting grpo.clip = 1: less than 1 is allowed"),
        ("grpo.group_size=1", "setting grpo.group_size = 1: 2 or more is allowed"),
        ("reward.hard_negatives=9", "setting reward.hard_negatives = 9: 5 or less is allowed"),
        ("reward.single_baseline=perhaps", "setting reward.single_baseline = 'perhaps': true or false is needed"),
        ("scaling.clip=[1, 2, 3]", "setting scaling.clip = [1, 2, 3]: 2 items at most are allowed"),
        ("models.policy=5", "setting models.policy = 5: text is needed; quote it"),
        (
            "limits.stage_minutes=5",
            "setting limits.stage_minutes = 5: names with values are needed; write {name: value}",
        ),
        (
            "scaling={tau: 1, tau: 2}",
            "--set 'scaling={tau: 1, tau: 2}': '{tau: 1, tau: 2}': 'tau' is there twice; say it once",
        ),
    ],
)
def test_what_is_allowed_is_said_in_our_words(assignment: str, sentence: str) -> None:
    assert problem(assignment) == sentence


@pytest.mark.parametrize(
    ("assignments", "sentence"),
    [
        (
            ["grpo.benign_ratio=0.1"],
            "grpo.benign_ratio = 0.1 of grpo.prompts_per_step = 4 rounds to none; 0.25 is the",
        ),
        (
            ["grpo.benign_ratio=0.9"],
            "grpo.benign_ratio = 0.9 of grpo.prompts_per_step = 4 rounds to all; 0.75 is the",
        ),
        (["grpo.prompts_per_step=1", "grpo.minibatches=1"], "no share between 0 and 1 does of one prompt"),
        (
            ["warm_start.benign_share=0.05"],
            "benign_share = 0.05 of warm_start.rows_per_step = 4 rounds to none",
        ),
        (["balance.benign_rows=0"], "grpo.benign_ratio = 0.5, and balance.benign_rows = 0 leaves no ordinary prompts"),
        (["balance.benign_rows=2"], "the guard's reward model needs 4 or more; 0 leaves the guard out"),
        (["grpo.minibatches=5"], "grpo.minibatches = 5: .* allowed is up to 4"),
        (["reward.draws=3"], "reward.draws = 3: completions.per_prompt = 2 are sampled; allowed is up to 2"),
        (["completions.prompts_per_category=3"], "a reward model would have 3 rows, .*; 4 or more are needed"),
        (["scaling.clip=[2, 1]"], "the lower bound comes first"),
        (["sources.files=[seed, a.csv]", "sources.evaluation_files=[a.csv]"], "both name a.csv"),
        (["grpo.reward_models=single", "reward.single_baseline=false"], "needs reward.single_baseline = true"),
    ],
)
def test_what_settings_cannot_say_together_is_refused_with_what_works(assignments: list[str], sentence: str) -> None:
    assert re.search(sentence, problem(*assignments))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_of_nothing_or_of_all_may_be_meant(share: float) -> None:
    assert load_settings("smoke", {"warm_start.benign_share": share}).warm_start.benign_share == share


def test_a_section_given_as_a_mapping_keeps_its_other_settings() -> None:
    changed = load_settings("smoke", parse_overrides(["scaling={kappa: 8}"])).scaling
    assert (changed.kappa, changed.reference) == (8, "ema")


def test_a_section_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: smoke\ngrpo: {steps: 2}\nscaling: {kappa: 2}\ngrpo:\n  steps: 7\n")
    with pytest.raises(SettingsError, match=r"(?s)mine.yaml' is no YAML: 'grpo' is there twice; say it once.*line 4"):
        load_settings(str(path))


def test_no_setting_is_of_a_kind_without_words() -> None:
    wrong = (None, "text", 2.5, -1, [], [1, 2, 3], {"a": 1}, True, float("nan"))
    for section, field in Settings.model_fields.items():
        below = field.annotation
        names = below.model_fields if isinstance(below, type) and issubclass(below, Section) else None
        for name in [section] if names is None else [f"{section}.{each}" for each in names]:
            for value in wrong:
                with suppress(SettingsError):  # any other error is a failure
                    load_settings("smoke", {name: value})


def test_a_setting_that_a_profile_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="setting 'models.policy' is missing from the profile"):
        load_settings(profile(tmp_path, "models: {encoder: bundled:tiny-random-encoder}"))


def test_all_problems_are_told_at_once() -> None:
    lines = problem("grpo.steps=0", "grpo.clip=7", "scaling.tau=-1", "x=1").splitlines()
    assert [line.split()[1] for line in lines] == ["scaling.tau", "grpo.steps", "grpo.clip", "'x'"]


@pytest.mark.parametrize("item", ["grpo.steps", "=5", ""])
def test_an_assignment_without_name_or_value_is_answered_with_an_example(item: str) -> None:
    with pytest.raises(SettingsError, match="SECTION.NAME=VALUE, for example --set grpo.steps=20"):
        parse_overrides([item])


def test_the_first_equals_sign_ends_the_name() -> None:
    assert parse_overrides(["models.policy=a=b"]) == {"models.policy": "a=b"}


def test_a_later_assignment_of_a_name_wins() -> None:
    assert parse_overrides(["grpo.steps=1", "grpo.steps=2"]) == {"grpo.steps": 2}


def test_an_assignment_that_is_no_yaml_is_shown() -> None:
    with pytest.raises(SettingsError, match=r"'\[1' is no YAML value; quote it"):
        parse_overrides(["scaling.clip=[1"])


def test_an_override_that_is_no_yaml_is_shown() -> None:
    with pytest.raises(SettingsError, match=r"scaling.clip: '\[1' is no YAML value"):
        load_settings("smoke", {"scaling.clip": "[1"})


def test_a_profile_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must be a mapping of sections, not list"):
        load_settings(profile(tmp_path, "- 1"))


def test_a_profile_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is no YAML"):
        load_settings(profile(tmp_path, "a: [1"))


def test_a_profile_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read as UTF-8"):
        load_settings(profile(tmp_path, b"\xff\xfe"))


def test_one_reward_model_for_all_has_to_be_trained() -> None:
    with pytest.raises(SettingsError, match=r"grpo.reward_models = single needs reward.single_baseline = true"):
        load_settings("demo", {"grpo.reward_models": "single", "reward.single_baseline": False})


@pytest.mark.parametrize(("path", "value"), [("grpo.group_size", 1), ("grpo.loss_type", "ppo"), ("grpo.alarm", "on")])
def test_setting_of_the_loop_out_of_range_is_refused(path: str, value: object) -> None:
    with pytest.raises(SettingsError, match=path):
        load_settings("demo", {path: value})


def test_template_arguments_and_the_date_are_read_from_the_command_line() -> None:
    settings = load_settings(
        "smoke",
        parse_overrides(["models.template_arguments={enable_thinking: false}", "models.template_date=2031-01-02"]),
    )
    assert settings.models.template_arguments == {"enable_thinking": False}
    assert settings.models.template_date == "2031-01-02"


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("models.template_arguments={tokenize: false}", "template_arguments: tokenize cannot be given"),
        ("models.template_arguments={chat_template: 1, bos_token: x}", "bos_token, chat_template cannot"),
        ("models.template_arguments=enable_thinking", "'enable_thinking' is no mapping; write {NAME: VALUE}"),
        ("models.template_arguments={day: 2031-01-02}", "is no variable with a JSON value"),
        ("models.template_arguments={a b: 1}", "'a b': 1 is no variable"),
        ("models.template_date=today", "'today' is no day; write YYYY-MM-DD"),
        ("models.template_date='2031-02-30'", "'2031-02-30' is no day"),
        ("models.template_date=2031-02-30", "'2031-02-30' is no YAML value; quote it"),
        ("models.template_date=20310102", "20310102 is no day"),
    ],
)
def test_what_a_template_cannot_be_given_is_told(assignment: str, sentence: str) -> None:
    assert sentence in problem(assignment)
