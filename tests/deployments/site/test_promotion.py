"""Promotion as operators and CI do it: one that passes, one that the gate refuses, a second version, a roll-back."""

import json
from collections.abc import Mapping
from subprocess import CompletedProcess
from typing import Any

import pytest
from deployed_site import REHEARSAL, Site

pytestmark = pytest.mark.slow

NAME = "tried"
PASSES, FAILS = "rehearse-pass", "rehearse-fail"
GATE_FAILED = 3


@pytest.fixture(scope="module")
def passed(site: Site) -> CompletedProcess[str]:
    """A run whose result passes the gate, started as CI starts it."""
    return site.watch("train/train", profile=PASSES, promote=NAME)


def champion(site: Site, name: str = NAME) -> str:
    return json.loads(site.read(f"models/{name}/champion.json"))["version"]


def test_a_result_that_passes_is_published_and_is_the_champion(site: Site, passed: CompletedProcess[str]) -> None:
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert f"models/{NAME}/{champion(site)}/adapter/adapter_model.safetensors" in site.keys(f"models/{NAME}")


@pytest.fixture(scope="module")
def refused(site: Site, passed: CompletedProcess[str]) -> Mapping[str, CompletedProcess[str]]:
    """Runs that the gate refuses: by CI's script, by the deployment that is scheduled, by the command line."""
    assert passed.returncode == 0
    given = ("--profile", FAILS, "--promote", NAME)
    return {
        "train/train": site.watch("train/train", profile=FAILS, promote=NAME),
        "retrain/retrain": site.watch("retrain/retrain", profile=FAILS, force=True),
        "dr-irl run": site.run("dr-irl", "run", *given),
    }


WAYS = ["train/train", "retrain/retrain", "dr-irl run"]


@pytest.mark.parametrize("way", WAYS)
def test_a_refused_result_ends_with_status_3_and_a_sentence_that_says_by_how_much(way: str, refused: Any) -> None:
    said = " ".join((refused[way].stdout + refused[way].stderr).split())
    assert refused[way].returncode == GATE_FAILED, said
    assert "1 of 27 checks failed: usefulness: perplexity (perplexity of good answers is " in said
    assert "at most 0.001 allowed: " in said


@pytest.mark.parametrize("way", WAYS)
def test_a_refused_result_shows_no_traceback(way: str, refused: Any) -> None:
    said = refused[way].stdout + refused[way].stderr
    assert [word for word in ("Traceback", "AssertionError", "Encountered exception") if word in said] == []


def test_a_refusal_has_a_state_of_its_own_on_the_page(site: Site, refused: Any) -> None:
    named = {"flow_runs": {"state": {"name": {"any_": ["GateFailed"]}}}}
    found = site.ask("flow_runs/filter", named)
    assert len(found) == len(WAYS)
    assert all("checks failed" in run["state"]["message"] for run in found)


def test_a_refused_result_leaves_the_champion(site: Site, passed: Any, refused: Any) -> None:
    assert len({key.split("/")[2] for key in site.keys(f"models/{NAME}") if key.endswith("version.json")}) == 1
    assert site.keys(f"models/{REHEARSAL}/history") == []


def test_after_a_second_version_a_rollback_brings_the_first_back(site: Site, refused: Any) -> None:
    first = champion(site)
    second = site.watch("train/train", profile=PASSES, promote=NAME, overrides={"grpo.steps": 4})
    assert second.returncode == 0, second.stdout + second.stderr
    assert (newer := champion(site)) != first
    rolled = site.run("dr-irl", "rollback", NAME)
    assert (rolled.returncode, rolled.stdout) == (0, f"{NAME} {first} is the champion, instead of {newer}\n")
    assert champion(site) == first
