"""The shipped profiles: they load, do what their first line says, and can be run on what is shipped."""

import re
from importlib.resources import files

import numpy as np
import pytest

from dr_irl.config import Settings
from dr_irl.demonstrations.balance import balance, wanted_rows
from dr_irl.demonstrations.dedupe import drop_duplicates
from dr_irl.demonstrations.sources import load_examples
from dr_irl.errors import SettingsError
from dr_irl.profile import PROFILES, load_settings
from dr_irl.records import Example

_FOLDER = files("dr_irl") / "profiles"


@pytest.fixture(scope="module")
def paper() -> Settings:
    return load_settings("paper")


@pytest.fixture(scope="module")
def shipped() -> list[Example]:
    limits = load_settings("smoke").sources
    examples, _ = load_examples(
        limits.files, max_prompt_characters=limits.max_prompt_characters, max_bad_rows=limits.max_bad_rows
    )
    return drop_duplicates(examples, near_duplicate=limits.near_duplicate)[0]


def test_every_shipped_profile_can_be_named() -> None:
    assert {path.name.removesuffix(".yaml") for path in _FOLDER.iterdir()} == set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_loads_under_its_own_name(profile: str) -> None:
    assert load_settings(profile).profile == profile


def test_an_unknown_profile_is_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"'papre' is unknown; allowed are smoke, demo, laptop, paper, re"):
        load_settings("papre")


@pytest.mark.parametrize("profile", [profile for profile in PROFILES if profile != "paper"])
def test_all_but_the_paper_profile_need_no_network(profile: str) -> None:
    models = load_settings(profile).models
    assert [name for name in (models.policy, models.encoder) if not name.startswith("bundled:")] == []


@pytest.mark.parametrize("profile", PROFILES)
def test_the_shipped_demonstrations_fill_every_category(profile: str, shipped: list[Example]) -> None:
    wanted = load_settings(profile).balance
    rows = balance(
        shipped,
        wanted_rows(wanted.rows_per_category, wanted.benign_rows),
        allow_repeats=False,
        generator=np.random.default_rng(0),
    )
    assert len(rows) == 7 * wanted.rows_per_category + wanted.benign_rows


def test_every_number_of_the_paper_profile_says_where_it_is_from() -> None:
    lines = (_FOLDER / "paper.yaml").read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if re.match(r" +\w+: *\S", line)]
    assert values
    assert [line for line in values if not re.search(r"\S +# (ours|as published|section|table|GRPO)\b", line)] == []


def test_the_paper_profile_leaves_out_what_is_not_in_the_paper(paper: Settings) -> None:
    ours = (
        paper.warm_start.steps,
        paper.balance.benign_rows,
        paper.grpo.benign_ratio,
        paper.reward.contrast_negatives,
    )
    assert ours == (0, 0, 0, 0)


def test_the_paper_profile_scales_as_published(paper: Settings) -> None:
    scaling = paper.scaling
    published = ("product", 1.0, "batch", None, False)
    assert (scaling.combine, scaling.kappa, scaling.reference, scaling.clip, scaling.rescale) == published


def test_the_paper_profile_adapts_every_layer_of_its_model(paper: Settings) -> None:
    # Llama-3.1-8B has 32 layers; its config.json is on the hub, so the number is repeated here.
    assert (paper.reward.depth, paper.reward.adapted_layers, paper.grpo.adapted_layers) == (32, 32, 32)


def test_a_rehearsal_differs_from_smoke_in_the_policy_and_in_what_the_gate_asks() -> None:
    smoke = load_settings("smoke").model_dump(exclude={"profile", "promotion"})
    rehearsal = load_settings("rehearse-pass").model_dump(exclude={"profile", "promotion"})
    assert rehearsal == smoke | {"models": smoke["models"] | {"policy": "bundled:tiny-babbling-lm"}}


def test_the_failing_rehearsal_makes_another_result_by_grpo_alone() -> None:
    kept = {"profile", "promotion", "grpo"}
    passing, failing = load_settings("rehearse-pass"), load_settings("rehearse-fail")
    assert failing.model_dump(exclude=kept) == passing.model_dump(exclude=kept)
    assert failing.grpo != passing.grpo
