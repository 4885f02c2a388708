"""What a run would find and build, and why, on a store with a finished run in it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dr_irl.artifacts import Store
from dr_irl.artifacts.store import Identity
from dr_irl.config import Settings
from dr_irl.profile import load_settings
from flows.cli import app
from flows.plan import Planned, plan_run, reasons
from tasks import stages
from tasks.dag import build_dag, select
from tasks.identify import identify


def settings_with(**overrides: Any) -> Settings:
    return load_settings("smoke", {name.replace("__", "."): value for name, value in overrides.items()})


def plan(store: Store, settings: Settings, **part: Any) -> dict[str, Planned]:
    dag = build_dag(settings)
    selection = select(dag, **part)
    return dict(plan_run(identify(dag, settings, store, selection.nodes), store, selection.rebuild))


def why(store: Store, settings: Settings, name: str) -> list[str]:
    return reasons(plan(store, settings)[name], store)


def misses(store: Store, settings: Settings) -> set[str]:
    return {name for name, planned in plan(store, settings).items() if planned.state == "miss"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds every artifact of a run; what is in them does not matter to a plan."""
    folder = tmp_path_factory.mktemp("store")
    store, settings = Store(str(folder)), settings_with()
    dag = build_dag(settings)
    refs = {name: planned.ref for name, planned in plan(store, settings).items()}
    for node in dag.values():
        inputs = {role: refs[source] for role, source in node.inputs.items()}
        identity: Identity = node.stage.identity(settings, node.variant, inputs)
        with store.build(identity) as scratch:
            (scratch / "content").write_text("x")
    return folder


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Store:
    return Store(str(shutil.copytree(finished, tmp_path / "store")))


def test_in_an_empty_store_everything_is_to_be_built(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    planned = plan(store, settings_with()).values()
    assert {(each.state, *reasons(each, store)) for each in planned} == {("miss", "never built here")}


def test_a_finished_run_is_found_whole(store: Store) -> None:
    assert misses(store, settings_with()) == set()


@pytest.mark.parametrize(
    ("setting", "rebuilt"),
    [
        ({"grpo__learning_rate": 0.5}, {"grpo", "evaluation/aligned", "report"}),
        ({"scaling__kappa": 2.0}, {"grpo", "evaluation/aligned", "report"}),
        ({"hardness__level": "whole"}, {"hardness", "grpo", "evaluation/aligned", "report"}),
        ({"warm_start__steps": 3}, {"warm-start", "grpo", "evaluation/warm-start", "evaluation/aligned", "report"}),
        ({"evaluation__ordinary": 2}, {f"evaluation/{m}" for m in ("unaligned", "warm-start", "aligned")} | {"report"}),
        ({"grpo__checkpoint_every": 1, "reward__checkpoint_every": 1, "warm_start__checkpoint_every": 1}, set()),
    ],
)
def test_a_changed_setting_rebuilds_what_depends_on_it(
    store: Store, setting: dict[str, Any], rebuilt: set[str]
) -> None:
    assert misses(store, settings_with(**setting)) == rebuilt


def test_a_changed_setting_is_named_with_both_values(store: Store) -> None:
    assert why(store, settings_with(grpo__learning_rate=0.5), "grpo") == ["setting grpo.learning_rate: 0.001 -> 0.5"]


def test_a_changed_input_is_named_with_both_fingerprints(store: Store) -> None:
    before, after = (plan(store, s)["grpo"].ref for s in (settings_with(), settings_with(grpo__learning_rate=0.5)))
    found = why(store, settings_with(grpo__learning_rate=0.5), "evaluation/aligned")
    assert found == [f"input adapter: {before.fingerprint[:8]} -> {after.fingerprint[:8]}"]


def test_changed_code_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = dict(stages.code_of("tasks.report:report")) | {"dr_irl.reward.readings": "0123456789abcdef"}
    unchanged = stages.code_of
    monkeypatch.setattr(stages, "code_of", lambda *entries: changed if "report:" in entries[0] else unchanged(*entries))
    [reason] = why(store, settings_with(), "report")
    assert re.fullmatch(r"code dr_irl\.reward\.readings: [0-9a-f]{8} -> 01234567", reason)


def test_the_artifact_most_alike_is_compared_with(store: Store) -> None:
    other = settings_with(grpo__learning_rate=0.5, grpo__clip=0.1)
    node, refs = build_dag(other)["grpo"], plan(store, other)
    with store.build(node.stage.identity(other, "", {r: refs[s].ref for r, s in node.inputs.items()})) as scratch:
        (scratch / "content").write_text("x")
    found = why(store, settings_with(grpo__learning_rate=0.5, grpo__clip=0.3), "grpo")
    assert found == ["setting grpo.clip: 0.1 -> 0.3"]


def test_what_is_asked_for_anew_is_no_hit(store: Store) -> None:
    planned = plan(store, settings_with(), refresh=["hardness"])
    assert {name for name, each in planned.items() if each.state == "anew"} == {"hardness"}


def test_a_damaged_artifact_is_to_be_built(store: Store) -> None:
    ref = plan(store, settings_with())["hardness"].ref
    Path(ref.uri, "content").write_text("y")
    assert misses(Store(store.uri), settings_with()) == {"hardness"}


def test_a_plan_needs_neither_torch_nor_prefect(store: Store) -> None:
    code = (
        "import sys; from flows.cli import app; "
        f"app(['plan', '--profile', 'smoke', '--store', {store.uri!r}], standalone_mode=False); "
        "print({'torch', 'prefect', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-2:] == ["22 of 22 artifacts are in the store", "set()"]


def test_a_plan_makes_no_store(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["plan", "--profile", "smoke", "--store", str(tmp_path / "store")], catch_exceptions=False)
    assert not (tmp_path / "store").exists()
