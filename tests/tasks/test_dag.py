"""The DAG as data: what depends on what, and which part of it a run is asked for."""

import pytest

from dr_irl.categories import ALL_LABELS, SINGLE
from dr_irl.errors import SettingsError
from dr_irl.profile import load_settings
from tasks.dag import Dag, build_dag, select

REWARDS = {f"reward/{label}" for label in ALL_LABELS}
SINGLE_REWARD = f"reward/{SINGLE}"


@pytest.fixture
def dag() -> Dag:
    return build_dag(load_settings("smoke"))


def test_every_node_comes_after_what_it_reads_and_waits_for(dag: Dag) -> None:
    order = list(dag)
    late = [
        (name, earlier)
        for name, node in dag.items()
        for earlier in (*node.inputs.values(), *node.after)
        if order.index(earlier) >= order.index(name)
    ]
    assert late == []


def test_the_report_reads_everything(dag: Dag) -> None:
    assert set(dag["report"].inputs.values()) == set(dag) - {"report"}


def test_there_is_a_reward_model_for_every_category_and_the_guard(dag: Dag) -> None:
    assert {name for name in dag if name.startswith("reward/")} == REWARDS | {SINGLE_REWARD}


def test_the_single_model_is_measured_and_never_used(dag: Dag) -> None:
    assert [name for name, node in dag.items() if SINGLE_REWARD in node.inputs] == ["panel-report", "report"]


def test_without_the_baseline_there_is_no_single_model() -> None:
    assert SINGLE_REWARD not in build_dag(load_settings("smoke", {"reward.single_baseline": False}))


def test_reward_models_trained_together_are_one_node_and_make_the_same_panel() -> None:
    joint = build_dag(load_settings("smoke", {"reward.training": "joint", "reward.single_baseline": False}))
    assert [name for name in joint if name.startswith("reward")] == ["reward"]
    assert set(joint["panel"].inputs) == {"reward"}


def test_the_policy_is_rewarded_by_the_panel_alone(dag: Dag) -> None:
    assert set(dag["grpo"].inputs) == {"balance", "hardness", "start", "panel"}


def test_training_starts_from_the_warm_start_and_the_champion_is_only_measured() -> None:
    dag = build_dag(load_settings("smoke", {"models.champion": "somewhere"}))
    assert dag["grpo"].inputs["start"] == "warm-start"
    assert [name for name, node in dag.items() if "champion" in node.inputs.values()] == [
        "evaluation/champion",
        "report",
    ]


def test_training_that_starts_from_the_champion_has_no_warm_start() -> None:
    dag = build_dag(load_settings("smoke", {"models.champion": "somewhere", "models.start": "champion"}))
    assert dag["grpo"].inputs["start"] == "champion"
    assert [name for name in dag if "warm" in name] == []


def test_a_champion_must_be_named_to_start_from_it() -> None:
    with pytest.raises(SettingsError, match="models.start = champion needs models.champion"):
        load_settings("smoke", {"models.start": "champion"})


def test_one_model_rewards_the_policy_where_that_is_asked() -> None:
    single = build_dag(load_settings("smoke", {"grpo.reward_models": "single"}))
    assert SINGLE_REWARD in single["grpo"].inputs


def test_grpo_is_the_same_node_whoever_trains() -> None:
    plain = {"hardness.source": "reference", "grpo.top_up": 0}  # what TRL can do
    names = ("grpo", "grpo-trl")
    dags = [build_dag(load_settings("smoke", plain | {"alignment.trainer": trainer})) for trainer in names]
    assert dags[0]["grpo"].inputs == dags[1]["grpo"].inputs
    assert dags[0]["grpo"].stage.make != dags[1]["grpo"].stage.make


def test_a_trainer_that_needs_no_rewards_reads_the_demonstrations_alone_and_has_no_warm_start() -> None:
    dag = build_dag(load_settings("smoke", {"alignment.trainer": "sft"}))
    assert dag["sft"].inputs == {"balance": "balance"}
    assert dag["evaluation/aligned"].inputs["adapter"] == dag["report"].inputs["trained"] == "sft"
    assert [name for name in dag if name in ("grpo", "warm-start", "evaluation/warm-start")] == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"alignment.trainer": "dpo"}, "there is no trainer 'dpo'; there are grpo, grpo-trl, sft"),
        ({"alignment.num_processes": 2}, "trainer = grpo cannot honour num_processes = 2: it is one process"),
        ({"alignment.trainer": "sft", "warm_start.steps": 0}, "trainer = sft cannot honour warm_start.steps = 0"),
        ({"alignment.trainer": "grpo-trl", "grpo.top_up": 1}, "trainer = grpo-trl cannot honour grpo.top_up = 1"),
    ],
)
def test_what_a_trainer_cannot_do_is_said_before_the_first_stage(overrides: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        build_dag(load_settings("smoke", overrides))


def test_without_ordinary_prompts_there_is_no_guard() -> None:
    assert "reward/benign" not in build_dag(load_settings("smoke", {"balance.benign_rows": 0, "grpo.benign_ratio": 0}))


def test_the_last_of_an_odd_number_of_reward_models_waits_for_the_others_and_has_all_threads() -> None:
    odd = build_dag(load_settings("smoke", {"balance.benign_rows": 0, "grpo.benign_ratio": 0}))
    alone = {name: node for name, node in odd.items() if name.startswith("reward/") and not node.stage.single_thread}
    others = REWARDS - {"reward/benign", *alone}
    assert [set(node.after) for node in alone.values()] == [others | {SINGLE_REWARD}]


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"reward.training": "joint"},
        {"reward.single_baseline": False},
        {"balance.benign_rows": 0, "grpo.benign_ratio": 0},
        {"balance.benign_rows": 0, "grpo.benign_ratio": 0, "reward.training": "joint", "reward.single_baseline": False},
        {"warm_start.steps": 0},
        {"models.champion": "somewhere"},
        {"models.champion": "somewhere", "models.start": "champion"},
    ],
)
def test_nothing_runs_beside_a_stage_that_has_all_threads(overrides: dict[str, object]) -> None:
    dag = build_dag(load_settings("smoke", overrides))
    before: dict[str, set[str]] = {}
    for name, node in dag.items():
        earlier = {*node.inputs.values(), *node.after}
        before[name] = earlier.union(*(before[each] for each in earlier))
    wide = [name for name, node in dag.items() if not node.stage.single_thread]
    others = ((one, two) for one in wide for two in dag if one != two)
    assert [(one, two) for one, two in others if one not in before[two] and two not in before[one]] == []


def test_an_even_number_of_reward_models_is_trained_side_by_side(dag: Dag) -> None:
    assert all(dag[name].stage.single_thread and not dag[name].after for name in REWARDS)


def test_a_warm_start_of_no_steps_is_left_out() -> None:
    dag = build_dag(load_settings("smoke", {"warm_start.steps": 0}))
    assert [name for name in dag if "warm" in name] == []


def test_reference_completions_do_not_depend_on_the_warm_start(dag: Dag) -> None:
    assert set(dag["completions"].inputs) == {"balance"}


def test_a_run_is_the_whole_dag_unless_asked_otherwise(dag: Dag) -> None:
    selection = select(dag)
    assert (selection.nodes, selection.rebuild) == (list(dag), frozenset())


def test_from_a_stage_on_all_that_depends_on_it_is_built_anew(dag: Dag) -> None:
    assert select(dag, from_stage="grpo").rebuild == {"grpo", "evaluation/aligned", "report"}


def test_from_the_reward_models_on_their_panel_is_built_anew_and_the_hardness_is_not(dag: Dag) -> None:
    rebuilt = select(dag, from_stage="reward").rebuild
    assert rebuilt == REWARDS | {SINGLE_REWARD, "panel", "panel-report", "grpo", "evaluation/aligned", "report"}


def test_a_refreshed_stage_is_built_anew_alone(dag: Dag) -> None:
    assert select(dag, refresh=["hardness", "reward/insult"]).rebuild == {"hardness", "reward/insult"}


def test_only_a_stage_brings_what_it_needs(dag: Dag) -> None:
    assert select(dag, only=["completions"]).nodes == ["sources", "route", "balance", "completions"]


def test_only_some_stages_from_one_of_them_on(dag: Dag) -> None:
    selection = select(dag, only=["completions"], from_stage="balance")
    assert selection.rebuild == {"balance", "completions"}


@pytest.mark.parametrize(
    "part", [{"from_stage": "gripo"}, {"refresh": ["gripo"]}, {"only": ["gripo"]}, {"only": ["reward/gripo"]}]
)
def test_an_unknown_stage_is_answered_with_the_known_ones(dag: Dag, part: dict[str, str]) -> None:
    with pytest.raises(
        SettingsError, match=r"'(reward/)?gripo' is not part of this run; its stages are sources, .*grpo"
    ):
        select(dag, **part)


def test_what_is_left_out_cannot_be_built_anew(dag: Dag) -> None:
    with pytest.raises(SettingsError, match="'grpo' is to be built anew, but it is not among what --only asks for"):
        select(dag, only=["balance"], refresh=["grpo"])


def test_a_time_limit_on_an_unknown_stage_is_refused() -> None:
    with pytest.raises(SettingsError, match="stage 'gpro' is not part of this run; its stages are sources, "):
        build_dag(load_settings("smoke", {"limits.stage_minutes": {"gpro": 1.0}}))
