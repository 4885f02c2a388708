import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dr_irl.records import ScalingRecord, StepRecord
from dr_irl.report.write import (
    flatten,
    number,
    p_value,
    percent,
    present_models,
    render_report,
    seconds,
    spread,
    write_report,
)
from dr_irl.results.statistics import rate
from dr_irl.results.summaries import Comparison, Estimate, LearningPoint, ModelSummary, RewardSummary

SECTIONS = {
    *("headline", "balance", "rewards", "scaling", "grpo", "refusal"),
    *("comparisons", "collapse", "answers", "settings", "stages"),
}
RESULTS = ("balance", "rewards", "cross_accuracy", "steps", "scaling", "models", "comparisons", "answers")


def test_every_section_is_present(full_page):
    assert set(full_page.ids) >= SECTIONS


def test_every_section_is_present_when_there_is_no_result(page):
    assert set(page().ids) >= SECTIONS


@pytest.mark.parametrize("field", RESULTS)
def test_every_section_is_present_with_one_result_alone(page, complete, field):
    assert set(page(**{field: getattr(complete(), field)}).ids) >= SECTIONS


def test_ids_are_unique(full_page):
    assert sorted(full_page.ids) == sorted(set(full_page.ids))


def test_same_data_gives_same_bytes(tmp_path: Path, complete):
    first, second = tmp_path / "a.html", tmp_path / "b.html"
    write_report(complete(), first)
    write_report(complete(), second)
    assert first.read_bytes() == second.read_bytes()


def test_another_process_with_another_hash_seed_gives_the_same_bytes(complete):
    code = (
        "import hashlib, conftest, dr_irl.report.write as w;"
        "print(hashlib.sha256(w.render_report(conftest.complete_run()).encode()).hexdigest())"
    )
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent)}
    there = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert there.stdout.strip() == hashlib.sha256(render_report(complete()).encode()).hexdigest()


def test_worker_threads_give_the_same_page(complete):
    data = complete(rewards=[], models=[])
    with ThreadPoolExecutor(3) as pool:
        pages = list(pool.map(render_report, [data] * 3))
    assert pages == [render_report(data)] * 3


def test_missing_folder_is_made(tmp_path: Path, complete):
    write_report(complete(), tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").is_file()


def test_head_says_which_run_it_is(full_page):
    head = " ".join(full_page.open_text.split())
    assert "Run run-1 Profile smoke Seed 7 Date 2026-01-02 03:04 UTC Machine two cores, cpu" in head


def test_warm_start_is_labelled_as_outside_the_method_wherever_it_stands_out(full_page):
    # four cards, the legend of the bars and the table of collapse
    assert full_page.open_text.count("not part of the method") == 6


def test_what_the_method_does_not_make_says_why_it_is_shown(model):
    shown = present_models([model(name) for name in ("unaligned", "warm start", "champion", "aligned")])
    assert [each.note for each in shown] == ["", "not part of the method", "in use so far", ""]


def test_without_a_warm_start_nothing_is_outside_the_method(page, model):
    assert "not part of the method" not in page(models=[model("unaligned"), model("aligned")]).open_text


def test_one_model_alone_shows_no_arrow(page, model):
    assert "→" not in page(models=[model("unaligned")]).open_text


def test_headline_shows_before_and_after_with_counts_and_intervals(page, model):
    text = " ".join(page(models=[model("unaligned", 1), model("aligned", 9)]).open_text.split())
    assert "10.0 % → 90.0 %" in text
    assert "9 of 10, 1 unscored 95 % interval 59.6–98.2 %" in text


def test_change_of_perplexity_is_shown(page, model):
    before, after = model("unaligned"), model("aligned", perplexity=15.0)
    assert "15.00, +20.0 % on unaligned" in page(models=[before, after]).open_text


def test_unscored_rate_is_reported_as_not_measured(page, model):
    unscored = model("unaligned")
    unscored.refusal["all"] = rate([None, None])
    # in its card and in the table
    assert page(models=[unscored]).open_text.count("not measured") == 2


def test_one_step_is_drawn(page):
    steps = [StepRecord(0, name, "all", 0.5) for name in ("reward", "kl", "loss")]
    scaling = [ScalingRecord(0, "p", "insult", 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0)]
    assert page(steps=steps, scaling=scaling).tags.count("svg") == 4


def test_infinite_values_do_not_stop_the_report(page, model, reward):
    seen = page(**_broken(math.inf, model("aligned"), reward))
    assert set(seen.ids) >= SECTIONS


def test_nan_does_not_stop_the_report(page, model, reward):
    seen = page(**_broken(math.nan, model("aligned"), reward))
    assert set(seen.ids) >= SECTIONS


def test_steps_that_are_all_nan_are_reported_as_missing(page):
    assert "No step was recorded" in page(steps=[StepRecord(0, "reward", "all", math.nan)]).open_text


def test_unknown_logged_name_is_drawn(page):
    assert "Brand new" in page(steps=[StepRecord(0, "brand_new", "all", 1.0)]).folded


def test_every_table_has_a_caption(full_page):
    assert full_page.tags.count("caption") == full_page.tags.count("table")


def test_every_header_cell_has_a_scope(full_page):
    assert full_page.tags.count("th") == [name for name, _ in full_page.attributes].count("scope")


def test_every_plot_has_an_alternative_text(full_page):
    labels = [value for name, value in full_page.attributes if name == "aria-label" and value]
    drawn = [label for label in labels if label.startswith(("Bars", "Curves"))]
    assert len(drawn) == full_page.tags.count("svg")


def test_spread_keeps_both_ends_and_even_distances():
    assert spread(list(range(9)), 3) == [0, 4, 8]


def test_spread_of_few_items_keeps_all():
    assert spread([1, 2], 3) == [1, 2]


def test_flatten_joins_names_with_dots():
    settings = {"a": {"b": {"c": 1}}, "d": None, "e": "text", "f": (1, 2)}
    assert flatten(settings) == [("a.b.c", "1"), ("d", "null"), ("e", "text"), ("f", "[1, 2]")]


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0.00"), (-1.5, "−1.50"), (1234.0, "1,234.00"), (0.0004, "4.0e−04"), (math.nan, "–")]
)
def test_numbers_are_formatted(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0.123, "12.3 %"), (0.0, "0.0 %"), (None, "–"), (math.nan, "–")])
def test_shares_are_formatted(value, shown):
    assert percent(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(1.25, "1.2 s"), (59.99, "1 min 00 s"), (75.0, "1 min 15 s"), (3720.0, "1 h 02 min")]
)
def test_durations_are_formatted(value, shown):
    assert seconds(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0.00099, "< 0.001"), (0.0034, "0.003"), (1.0, "1.000")])
def test_p_values_are_formatted(value, shown):
    assert p_value(value) == shown


def _broken(bad: float, aligned: ModelSummary, reward: Callable[..., RewardSummary]) -> dict[str, object]:
    nothing, no_gap = rate([]), Estimate(bad, bad, bad, 0)
    return {
        "models": [ModelSummary("unaligned", {}, {}, bad, bad, bad, bad), aligned],
        "steps": [
            StepRecord(0, "reward", "all", 1.0),
            StepRecord(1, "reward", "all", bad),
            StepRecord(0, "kl", "all", bad),
        ],
        "scaling": [
            ScalingRecord(0, "p", "insult", bad, 1.0, 1.0, bad, 1.0, bad, bad),
            ScalingRecord(1, "p", "insult", 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0),
        ],
        "rewards": [
            reward(
                "insult",
                **dict.fromkeys(["validation_accuracy", "unseen_accuracy", "single_unseen", "single_hard"], nothing),
                **dict.fromkeys(["validation_gap", "unseen_gap"], no_gap),
                **dict.fromkeys(["hard_accuracy", "rules"], {"all": nothing, "other": nothing}),
                length_correlation=bad,
                loss=[bad, 0.5],
                curve=[LearningPoint(1, 0, bad, bad, bad, bad, True), LearningPoint(2, 1, bad, 0.5, 0.5, bad, False)],
            )
        ],
        "cross_accuracy": {"insult": {"insult": bad}},
        "comparisons": [Comparison("harmful", "a", "b", 0, 0, bad)],
        "stage_seconds": {"sources": bad, "grpo": 1.0},
    }
