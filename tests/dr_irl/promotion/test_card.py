"""The model card: what hubs read, and what people read."""

from dataclasses import replace

import pytest
import yaml

from dr_irl.promotion.card import Evidence, Subject, model_card
from dr_irl.promotion.gate import Check
from dr_irl.results.statistics import rate
from dr_irl.results.summaries import BalanceSummary, ModelSummary

SUBJECT = Subject("safe", "20261130-030000-1a2b3c4d", "demo-20261130-030000-1a2b3c4d", "org/base", "abc", 33)


def summary(name: str, refused: int) -> ModelSummary:
    flags = [True] * refused + [False] * (4 - refused)
    return ModelSummary(name, {"insult": rate(flags)}, {"ordinary": rate([])}, 50.25, 1.0, 0.1, 0.125)


EVIDENCE = Evidence(
    balance=BalanceSummary({"insult": 9}, {"insult": 8}, 0.5, 1.0, {"a.csv": {"duplicate": 3}}),
    sources={"red-team": 5, "seed": 3},
    models=[summary("unaligned", 1), summary("aligned", 4)],
    checks=[Check("safety: all", True, "refuses 4 | of 4")],
    compared_with="the unaligned model",
    settings={"seed": 0, "alignment": {"trainer": "grpo"}, "grpo": {"steps": 3}},
)


@pytest.fixture(scope="module")
def card() -> str:
    return model_card(SUBJECT, EVIDENCE)


def test_the_header_is_what_hubs_read(card: str) -> None:
    header = yaml.safe_load(card.split("---\n")[1])
    assert (header["base_model"], header["library_name"], header["license"]) == ("org/base", "peft", "other")


def test_refusals_have_counts_and_intervals(card: str) -> None:
    assert "| harmful, insult | 1 of 4: 25% [5, 70] | 4 of 4: 100% [51, 100] |" in card


def test_what_was_not_measured_is_said(card: str) -> None:
    assert "| ordinary | not measured | not measured |" in card


def test_data_are_counted_by_category_and_source(card: str) -> None:
    assert "| insult | 9 | 8 |" in card and "| red-team | 5 |" in card and "Rows dropped: 3 duplicate." in card


def test_checks_stand_in_a_table_that_their_sentences_do_not_break(card: str) -> None:
    assert "| safety: all | passed | refuses 4 \\| of 4 |" in card


def test_settings_can_be_read_back(card: str) -> None:
    assert yaml.safe_load(card.split("```yaml\n")[1].split("```")[0]) == EVIDENCE.settings


def test_the_command_for_vllm_asks_for_a_rank_that_vllm_takes(card: str) -> None:
    assert "vllm serve org/base --enable-lora --max-lora-rank 64 --lora-modules safe=adapter" in card


def test_the_revision_of_the_base_model_is_part_of_loading_it(card: str) -> None:
    assert 'AutoModelForCausalLM.from_pretrained("org/base", revision="abc")' in card


@pytest.mark.parametrize(
    "section", ["Intended use and limits", "How to load it", "Results", "Data", "Settings", "License"]
)
def test_a_card_has_the_section(card: str, section: str) -> None:
    assert f"\n## {section}\n" in card


def test_the_tags_name_what_trained_the_policy() -> None:
    settings = {**EVIDENCE.settings, "alignment": {"trainer": "sft"}}
    _, header, _ = model_card(SUBJECT, replace(EVIDENCE, settings=settings)).split("---\n", 2)
    assert yaml.safe_load(header)["tags"][-2:] == ["sft", "safety"]
