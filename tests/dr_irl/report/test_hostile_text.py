"""What models and prompts say is hostile: it is shown as text, and the harmful part only in folds."""

from pathlib import Path

import pytest

from dr_irl.categories import BENIGN, HARM_CATEGORIES
from dr_irl.records import Answer, ScalingRecord, StepRecord
from dr_irl.report.write import write_report
from dr_irl.results.statistics import rate
from dr_irl.results.summaries import BalanceSummary, Comparison

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"' </details> & $x_1$ {{ 7 * 7 }} \u202e"


def test_hostile_text_makes_no_tag_and_no_attribute(page, model, answer, reward):
    hostile = model(HOSTILE)
    some = hostile.refusal[HOSTILE] = rate([True])
    seen = page(
        run_id=HOSTILE,
        title=HOSTILE,
        created=HOSTILE,
        profile=HOSTILE,
        settings={HOSTILE: HOSTILE, "list": [HOSTILE]},
        environment={"machine": HOSTILE},
        balance=BalanceSummary({HOSTILE: 1}, {HOSTILE: 2}, 0.5, 0.5, {HOSTILE: {HOSTILE: 3}}),
        rewards=[
            reward(
                HOSTILE, hard_accuracy=dict.fromkeys(["all", HOSTILE], some), rules={HOSTILE: some}, warnings=[HOSTILE]
            )
        ],
        cross_accuracy={HOSTILE: {HOSTILE: 0.5}},
        steps=[StepRecord(0, HOSTILE, HOSTILE, 1.0)],
        scaling=[ScalingRecord(0, HOSTILE, HOSTILE, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0)],
        models=[hostile],
        comparisons=[Comparison(HOSTILE, HOSTILE, HOSTILE, 1, 0, 1.0)],
        answers={
            HOSTILE: [
                Answer("ordinary", HOSTILE, HOSTILE, BENIGN, HOSTILE, True, True),
                Answer(HOSTILE, "1", HOSTILE, HOSTILE, HOSTILE, None, True),
            ]
        },
        stage_seconds={HOSTILE: 1.0},
    )
    assert not {"script", "img"} & set(seen.tags)
    assert "onerror" not in {name for name, _ in seen.attributes}


def test_hostile_text_is_shown_as_it_is(page):
    rows = [Answer("ordinary", "1", HOSTILE, BENIGN, "text", False, False)]
    assert HOSTILE in page(answers={"unaligned": rows}).open_text


def test_hostile_warning_is_shown_as_it_is(page, reward):
    assert HOSTILE in page(rewards=[reward("insult", warnings=[HOSTILE])]).open_text


def test_template_marks_in_an_answer_are_not_evaluated(page, answer):
    rows = [answer("ordinary", 0, BENIGN, "{{ 7 * 7 }}")]
    assert "{{ 7 * 7 }}" in page(answers={"unaligned": rows}).open_text


def test_half_a_surrogate_pair_is_written(tmp_path: Path, complete, answer):
    rows = [answer("ordinary", 0, BENIGN, "broken \ud83d emoji")]
    write_report(complete(answers={"unaligned": rows}, steps=[], scaling=[]), tmp_path / "report.html")
    assert "broken ? emoji" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_page_asks_for_nothing_from_elsewhere(full_page):
    links = [value for name, value in full_page.attributes if name in ("src", "href", "xlink:href", "srcset", "data")]
    assert all(value is not None and value.startswith("#") for value in links)


def test_page_has_no_script(full_page):
    assert "script" not in full_page.tags


def test_harmful_prompts_are_shown_only_in_folds(full_page):
    assert "harmful question" in full_page.folded
    assert "harmful question" not in full_page.open_text


def test_answers_to_harmful_prompts_are_shown_only_in_folds(page, answer):
    seen = page(answers={"unaligned": [answer("harmful", 0, "insult", "A dreadful answer.")]})
    assert ("A dreadful answer." in seen.folded, "A dreadful answer." in seen.open_text) == (True, False)


@pytest.mark.parametrize(("suite", "category"), [("ordinary", "insult"), ("static wrapper", BENIGN), ("new", "new")])
def test_whatever_is_not_known_to_be_harmless_is_folded(page, answer, suite, category):
    seen = page(answers={"unaligned": [answer(suite, 0, category)]})
    assert (f"{suite} question" in seen.folded, f"{suite} question" in seen.open_text) == (True, False)


def test_folds_start_closed(full_page):
    assert "open" not in {name for name, _ in full_page.attributes}


def test_note_on_harmful_prompts_is_visible(full_page):
    assert "These prompts are test inputs" in full_page.open_text


def test_three_harmful_prompts_per_category_are_shown(full_page):
    assert full_page.folded.count("harmful question") == 3 * len(HARM_CATEGORIES)


@pytest.mark.parametrize("suite", ["ordinary", "lookalike"])
def test_twelve_open_prompts_are_shown(full_page, suite):
    assert full_page.open_text.count(f"{suite} question") == 12


def test_answers_of_all_models_stand_under_one_prompt(page, answer):
    rows = {name: [answer("ordinary", 0, BENIGN, f"said by {name}")] for name in ("one", "two", "three")}
    text = page(answers=rows).open_text
    assert [text.count(f"said by {name}") for name in rows] == [1, 1, 1]
    assert text.count("ordinary question 0") == 1
