"""A finished run before the gate and into the registry, on artifacts made by hand."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from finished_run import SECRET, finished_run, published_files, read_about

from dr_irl.artifacts import Store
from dr_irl.categories import HARM_CATEGORIES
from dr_irl.errors import GateError
from dr_irl.promotion.registry import Registry
from flows.record import RunRecord
from tasks.promotion import Candidate, gate_run, publish_run, published_as_champion

FIRST = "20261130-030001-00000001"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def candidate(record: RunRecord) -> Candidate:
    return Candidate(record.run_id, record.settings, record.artifacts)


@pytest.fixture
def first(store: Store) -> Candidate:
    """A run that refuses all; the unaligned model refuses nothing."""
    return candidate(finished_run(store))


@pytest.fixture
def champion(store: Store, first: Candidate) -> str:
    """The first run, published as `safe`: the URI of its adapter."""
    publish_run(store, first, "safe", gate_run(store, first, "safe"))
    return str(Registry(store).adapter_uri("safe"))


def test_before_there_is_a_champion_the_unaligned_model_stands_in_for_it(store: Store, first: Candidate) -> None:
    verdict = gate_run(store, first, "safe")
    assert (verdict.compared_with, verdict.replaces) == ("the unaligned model", None)
    assert all(check.passed for check in verdict.checks)


def test_a_result_that_refuses_a_little_less_than_the_champion_is_not_better(store: Store, champion: str) -> None:
    worse = candidate(finished_run(store, 2, refused=9, champion=champion))
    failed = [check.name for check in gate_run(store, worse, "safe").checks if not check.passed]
    assert failed == ["safety: all"]  # 1 of 20 is within the tolerance of each category, 7 of 140 is no gain


def test_a_failing_gate_leaves_the_champion_and_names_what_failed(store: Store, champion: str) -> None:
    worse = candidate(finished_run(store, 2, refused=8, champion=champion))
    before = published_files(store, "safe")
    with pytest.raises(GateError) as refused:
        publish_run(store, worse, "safe", gate_run(store, worse, "safe"))
    told = str(refused.value)
    assert told.startswith(
        f"the result may not replace champion {FIRST}: 8 of 27 checks failed: "
        "safety: insult (refuses 8 of 20, the champion 10 (0 gained, 2 lost, p = 0.25); 10.0 points less, 5.0 points "
    )
    assert told.endswith(f"and 5 more: safety ({', '.join([*HARM_CATEGORIES[3:], 'all'])})")
    assert published_files(store, "safe") == before


def test_a_better_result_replaces_the_champion(store: Store, champion: str) -> None:
    better = candidate(finished_run(store, 2, champion=champion))
    version = publish_run(store, better, "safe", gate_run(store, better, "safe"))
    move = Registry(store).champion("safe")
    assert move and (move.version, move.previous, move.run_id) == (version.version, FIRST, better.run_id)


def test_a_version_holds_adapter_tokenizer_card_and_report(store: Store, champion: str) -> None:
    inside = {key.removeprefix(f"models/safe/{FIRST}/").split("/")[0] for key in published_files(store, "safe")}
    assert inside >= {"adapter", "tokenizer", "README.md", "report.html", "version.json"}


def test_a_version_names_what_it_was_compared_with_and_the_bounds(store: Store, champion: str) -> None:
    about = read_about(store, "safe", FIRST)
    assert about["compared_with"] == "the unaligned model" and about["bounds"]["min_judged"] == 20


def test_neither_card_nor_version_file_quotes_a_prompt(store: Store, champion: str) -> None:
    texts = [store.read_text(f"models/safe/{FIRST}/{name}") for name in ("README.md", "version.json")]
    assert not any(SECRET in text for text in texts)


def test_the_adapter_names_its_base_model_as_the_settings_do(store: Store, champion: str) -> None:
    config = Path(champion, "adapter_config.json").read_text()
    assert '"base_model_name_or_path": "bundled:tiny-random-lm"' in config


def test_a_run_that_was_not_compared_with_the_champion_is_told_what_to_do(store: Store, champion: str) -> None:
    other = candidate(finished_run(store, 2))
    with pytest.raises(GateError, match=f"with the unaligned model, but .* is {FIRST}; .*dr-irl run --promote safe"):
        gate_run(store, other, "safe")


def test_a_run_that_was_compared_with_an_earlier_champion_is_told_so(store: Store, champion: str) -> None:
    second, third = (candidate(finished_run(store, number, champion=champion)) for number in (2, 3))
    publish_run(store, second, "safe", gate_run(store, second, "safe"))
    with pytest.raises(GateError, match=f"compared its result with {champion}, but the champion of 'safe' is"):
        gate_run(store, third, "safe")


def test_a_champion_that_moved_after_the_gate_is_not_replaced(store: Store, champion: str) -> None:
    second, third = (candidate(finished_run(store, number, champion=champion)) for number in (2, 3))
    late = gate_run(store, third, "safe")
    publish_run(store, second, "safe", gate_run(store, second, "safe"))
    with pytest.raises(GateError, match=f"no longer {FIRST} but 20261130-030002-00000002"):
        publish_run(store, third, "safe", late)


def test_a_champion_in_another_place_with_the_same_weights_is_the_same(
    store: Store, champion: str, tmp_path: Path
) -> None:
    shutil.copytree(champion, tmp_path / "copy")
    copied = candidate(finished_run(store, 2, champion=str(tmp_path / "copy")))
    assert gate_run(store, copied, "safe").replaces == FIRST


def test_an_adapter_named_as_champion_stands_in_for_the_first(store: Store, champion: str) -> None:
    verdict = gate_run(store, candidate(finished_run(store, 2, champion=champion)), "other")
    assert (verdict.compared_with, verdict.replaces) == (f"the adapter {champion}", None)


def test_a_result_that_is_the_champion_already_is_known(store: Store, champion: str, first: Candidate) -> None:
    again = dataclasses.replace(first, run_id="smoke-20261201-030000-00000001")
    found = published_as_champion(store, again, "safe")
    assert found and found.version == FIRST


def test_another_result_is_not_the_champion(store: Store, champion: str) -> None:
    assert published_as_champion(store, candidate(finished_run(store, 2)), "safe") is None


def test_publishing_that_was_cut_off_before_the_move_is_completed(
    store: Store, first: Candidate, champion: str
) -> None:
    store.backend.delete_tree("models/safe/history")
    store.backend.delete(["models/safe/champion.json"])
    publish_run(store, first, "safe", gate_run(store, first, "safe"))
    move = Registry(store).champion("safe")
    assert move and move.version == FIRST
