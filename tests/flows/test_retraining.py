"""The weekly retraining on the smoke profile, under a Prefect server of the tests' own."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.testing.utilities import prefect_test_harness

from dr_irl.artifacts import Store
from dr_irl.config import Settings
from dr_irl.demonstrations import inbox
from dr_irl.errors import SettingsError
from dr_irl.profile import load_settings
from dr_irl.records import Example
from flows import retraining
from flows.pipeline import align
from flows.record import RunRecord, finish_run
from flows.retraining import retrain_pipeline
from tasks.orchestration.opening import open_store

pytestmark = pytest.mark.slow

RESPONSE = "I won't help with that, but I can help you talk to them."


def row(word: str, **changes: Any) -> dict[str, Any]:
    prompt = f"how could somebody make fun of {word} in front of everyone"
    return {"prompt": prompt, "category": "insult", "response": RESPONSE} | changes


@pytest.fixture(scope="module", autouse=True)
def prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take files that were written a moment ago."""
    monkeypatch.setattr(retraining, "Limits", lambda *limits: inbox.Limits(*limits, settle_seconds=0.0))


@dataclass
class Site:
    """A store, and what was to be trained in it."""

    store: Store
    trained: list[tuple[Settings, str | None]] = field(default_factory=list)
    """Settings of each whole run, and the name that its result was to be published under."""

    def drop(self, name: str, *rows: dict[str, Any]) -> None:
        self.store.backend.write(f"inbox/{name}", "".join(json.dumps(each) + "\n" for each in rows).encode())

    def retrain(self, **parameters: Any) -> State[Any]:
        given = {"profile": "smoke", "store": self.store.uri, "promote": None} | parameters
        return retrain_pipeline(**given, return_state=True)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site where whole runs only leave a record; what comes before them is run."""
    site = Site(open_store(str(tmp_path / "store")))

    def leave_a_record(settings: Settings, store: Store, selection: Any = None, **options: Any) -> Any:
        if selection is not None:
            return align(settings, store, selection)
        site.trained.append((settings, options["promote"]))
        return finish_run(store, settings, {"grpo": store.ref("grpo", f"{len(site.trained):08}")}, None)

    monkeypatch.setattr(retraining, "align", leave_a_record)
    return site


def names(settings: Settings) -> list[str]:
    return [Path(file).name[:4] for file in settings.sources.files]


def ledger(site: Site) -> list[str]:
    return [entry.sha256[:4] for entry in retraining.read_ledger(site.store.backend)]


def test_an_empty_inbox_runs_nothing(site: Site) -> None:
    state = site.retrain()
    assert (state.is_completed(), site.trained) == (True, [])
    assert state.message == f"nothing new in {site.store.uri}/inbox yet; 0 files were left for the next run"


def test_what_is_new_is_trained_on_after_the_profiles_own_files(site: Site) -> None:
    site.drop("week.jsonl", row("Ann"))
    site.retrain()
    [(settings, _)] = site.trained
    assert names(settings) == ["seed", *ledger(site)]


def test_past_files_come_before_new_ones(site: Site) -> None:
    for week in ("z", "a"):
        site.drop(f"{week}.jsonl", row(week * 9))
        site.retrain()
    assert [names(settings) for settings, _ in site.trained] == [["seed", *ledger(site)[:1]], ["seed", *ledger(site)]]


def test_what_was_trained_on_is_not_new(site: Site) -> None:
    site.drop("week.jsonl", row("Ann"))
    record = site.retrain().result()
    assert f"nothing new in {site.store.uri}/inbox since run {record.run_id}" in str(site.retrain().message)


def test_what_a_run_that_failed_claimed_is_trained_on_by_the_next(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no luck")

    site.drop("week.jsonl", row("Ann"))
    with monkeypatch.context() as patch:
        patch.setattr(retraining, "align", fail)
        assert site.retrain().is_failed()
    site.retrain()
    assert [names(settings) for settings, _ in site.trained] == [["seed", *ledger(site)]]


def test_a_run_without_an_inbox_does_not_hide_what_was_trained_on(site: Site) -> None:
    site.drop("week.jsonl", row("Ann"))
    site.retrain()
    finish_run(site.store, load_settings("smoke"), {"grpo": site.store.ref("grpo", "f" * 8)}, None)
    site.retrain()
    assert len(site.trained) == 1


def test_another_profile_has_not_seen_what_this_one_has(site: Site) -> None:
    site.drop("week.jsonl", row("Ann"))
    site.retrain()
    assert retraining._last_retraining(site.store, "demo") == (None, set())


def test_duplicates_of_the_past_run_nothing(site: Site) -> None:
    site.drop("a.jsonl", row("Ann"))
    site.retrain()
    site.drop("b.jsonl", row("Ann", response="No."))
    assert "new files: 1, with 1 rows: 1 like others" in str(site.retrain().message) and len(site.trained) == 1


def test_prompts_without_a_demonstration_run_nothing(site: Site) -> None:
    site.drop("a.jsonl", row("Ann", response=None))
    assert "1 kept (insult 1; 0 by the router), 1 of them without" in str(site.retrain().message)


def test_prompts_without_a_demonstration_are_enough_where_the_policy_writes_one(site: Site) -> None:
    site.drop("a.jsonl", row("Ann", response=None))
    site.retrain(overrides={"demonstrations.generator": "policy"})
    assert len(site.trained) == 1


def test_force_trains_on_what_is_old(site: Site) -> None:
    site.retrain(force=True)
    assert [names(settings) for settings, _ in site.trained] == [["seed"]]


def test_a_file_that_cannot_be_used_does_not_stop_the_run(site: Site) -> None:
    site.drop("a.jsonl", {"question": "x"})
    site.drop("b.jsonl", row("Ann"))
    assert (site.retrain().is_completed(), len(site.trained)) == (True, 1)


def test_without_a_champion_a_run_starts_from_the_base(site: Site) -> None:
    site.drop("a.jsonl", row("Ann"))
    site.retrain(start="champion", promote="safe")
    [(settings, promote)] = site.trained
    assert (settings.models.start, promote) == ("base", "safe")


def test_a_run_starts_from_the_champion(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_champion(settings: Settings, store: Store, name: str) -> Settings:
        return settings.model_copy(update={"models": settings.models.model_copy(update={"champion": f"/{name}"})})

    monkeypatch.setattr(retraining, "against_champion", with_champion)
    site.drop("a.jsonl", row("Ann"))
    site.retrain(start="champion", promote="safe")
    assert [(s.models.start, s.models.champion) for s, _ in site.trained] == [("champion", "/safe")]


def test_a_champion_without_a_name_is_refused_before_anything_is_claimed(site: Site) -> None:
    site.drop("a.jsonl", row("Ann"))
    with pytest.raises(SettingsError, match="start is 'champion', but no model is named"):
        site.retrain(start="champion").result()
    assert ledger(site) == []


def test_new_findings_are_trained_on_from_end_to_end(tmp_path: Path) -> None:
    site = Site(open_store(str(tmp_path / "store")))
    # Of 6 insults 3 may be new; the shipped ones are 610.
    site.drop("week.jsonl", *(row(word) for word in ("my sister Ann", "some old neighbour", "a colleague at work")))
    record = site.retrain().result()
    assert isinstance(record, RunRecord)
    drawn = Example.read(site.store.fetch(record.artifacts["balance"]) / "examples.parquet")
    assert sum(example.response == RESPONSE for example in drawn) == 3
    assert "nothing new" in str(site.retrain().message)
