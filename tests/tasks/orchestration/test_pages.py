"""What the page of a run shows, from records small enough to count and average by hand."""

import base64
import json
import math
import re
import shlex
import socket
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.categories import BENIGN
from dr_irl.records import Answer, RewardReading, ScalingRecord, StepRecord
from dr_irl.results.summaries import ModelSummary, Rate
from tasks.contents import ANSWERS, SCALING, STEPS, SUMMARY
from tasks.orchestration import pages
from tasks.orchestration.curves import MOST_POINTS, draw_curves
from tasks.orchestration.pages import (
    Made,
    alpha_curves,
    balance_rows,
    refusal_rows,
    reward_rows,
    scaling_rows,
    show_refusal,
    show_report,
    show_run,
    show_scaling,
    show_stage,
)
from tasks.stages import BALANCE


def record(step: int, category: str, alpha: float, gap: float, kept: float = 1.0) -> ScalingRecord:
    return ScalingRecord(step, "id", category, 1.0, alpha, alpha, gap, kept, 0.0, 0.0)


RECORDS = [
    record(0, "insult", 0.8, 2.0, kept=0.5),
    record(0, "insult", 1.2, 4.0),
    record(1, "insult", 1.3, 1.0),
    record(0, "physical_harm", 1.0, 5.0),
    record(0, BENIGN, 1.0, 9.0),
]


def reading(model: str, kind: str, gap: float) -> RewardReading:
    return RewardReading(model, "insult", kind, "id", gap, 0.0, 1, 1, None, None)


def summary(name: str, hits: int) -> ModelSummary:
    share = Rate(hits, 4, 0.25, 0.75)
    return ModelSummary(name, {"insult": share}, {"ordinary": Rate(0, 0, 0.0, 1.0)}, 1.0, 1.0, 1.0, 1.0)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(Store(str(tmp_path / "store")), ArtifactRef(stage="grpo", fingerprint="ab", uri="unused"), tmp_path)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What goes to the page: key -> everything that was said under it."""
    seen: dict[str, Any] = {}
    for name in ("create_table_artifact", "create_markdown_artifact"):
        monkeypatch.setattr(pages, name, lambda *said, key, **more: seen.update({key: [*said, *more.values()]}))
    return seen


def test_every_harm_category_has_a_row() -> None:
    assert [(row["category"], row["prompts"]) for row in scaling_rows(RECORDS)] == [("insult", 3), ("physical_harm", 1)]


def test_factor_is_shown_with_its_range() -> None:
    assert scaling_rows(RECORDS)[0]["alpha"] == "1.100 (0.800 to 1.300)"


def test_gap_is_shown_at_both_ends() -> None:
    row = scaling_rows(RECORDS)[0]
    assert (row["gap, first step"], row["gap, last step"]) == (3.0, 1.0)


def test_share_of_kept_gaps_is_over_all_prompts() -> None:
    assert scaling_rows(RECORDS)[0]["gaps kept"] == "83%"


def test_a_category_that_lost_all_its_rows_is_shown_with_none() -> None:
    assert balance_rows({"insult": 5}, {}) == [{"category": "insult", "before": 5, "after": 0}]


def test_accuracy_is_shown_with_count_and_interval() -> None:
    assert reward_rows({"insult": [0.1, 0.2, -0.3, 0.4]}, [])[0]["validation"] == "3 of 4: 75% [30, 95]"


def test_completions_and_hard_negatives_are_counted_apart() -> None:
    readings = [reading("insult", "completion", 1.0), reading("insult", "repeated", -1.0)]
    [row] = reward_rows({"insult": []}, readings)
    assert [str(row[column])[:6] for column in ("held-out", "hard negatives")] == ["1 of 1", "0 of 1"]


def test_what_another_model_makes_of_a_category_is_not_counted() -> None:
    assert reward_rows({"insult": []}, [reading("single", "completion", 1.0)])[0]["held-out"] == "not measured"


def test_models_stand_side_by_side() -> None:
    row = refusal_rows(refusal_rows([], summary("unaligned", 1)), summary("aligned", 3))[0]
    assert row == {
        "prompts": "insult",
        "unaligned": "1 of 4: 25% [25, 75]",
        "aligned": "3 of 4: 75% [25, 75]",
    }


def test_alpha_is_averaged_over_the_prompts_of_a_step() -> None:
    assert alpha_curves(RECORDS)["insult"] == [(0, 1.0), (1, 1.3)]


def test_ordinary_prompts_have_no_alpha() -> None:
    assert BENIGN not in alpha_curves(RECORDS)


def drawn(curves: dict[str, list[tuple[int, float]]]) -> ElementTree.Element:
    kind, _, encoded = draw_curves("A <title>", curves).partition(",")
    assert kind == "data:image/svg+xml;base64"
    return ElementTree.fromstring(base64.b64decode(encoded))


def points(picture: ElementTree.Element) -> list[list[str]]:
    return [str(line.get("points")).split() for line in picture.iter("{http://www.w3.org/2000/svg}polyline")]


def test_every_category_has_a_curve() -> None:
    assert len(points(drawn({"insult": [(0, 1.0), (1, 2.0)], "physical_harm": [(0, 1.0)]}))) == 2


def test_a_curve_ends_at_the_corners_of_its_frame() -> None:
    assert points(drawn({"insult": [(0, 1.0), (10, 2.0)]})) == [["56.0,266.0", "550.0,36.0"]]


def test_a_number_that_is_none_is_left_out() -> None:
    assert points(drawn({"insult": [(0, math.nan)]})) == []


def test_a_picture_of_a_long_run_stays_small() -> None:
    curves = {f"category {row}": [(step, step * 0.1) for step in range(10_000)] for row in range(8)}
    assert len(draw_curves("long", curves)) < 50_000


def test_the_last_step_of_a_long_run_is_drawn() -> None:
    picture = drawn({"insult": [(step, float(step)) for step in range(7 * MOST_POINTS)]})
    assert f"step {7 * MOST_POINTS - 1}" in [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]


def test_pictures_are_shown_beside_the_factors(made: Made, sent: dict[str, Any]) -> None:
    folder = made.file(SCALING).parent
    folder.mkdir(parents=True)
    ScalingRecord.write(RECORDS, folder / SCALING)
    StepRecord.write([StepRecord(0, "reward", "insult", 1.0)], folder / STEPS)
    show_scaling(made)
    assert list(sent) == ["scaling-factors", "alpha-curves", "reward-curves"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The artifacts of a run that evaluated two models, one after the other, and wrote a report."""
    folder = tmp_path_factory.mktemp("run")
    store = Store(str(folder / "a store"))

    def evaluate(name: str, hits: int) -> None:
        ref = ArtifactRef(stage=f"evaluation/{name}", fingerprint="ab", uri="unused")
        evaluation = Made(store, ref, folder / name)
        where = evaluation.file(SUMMARY).parent
        where.mkdir(parents=True)
        (where / SUMMARY).write_text(json.dumps(asdict(summary(name, hits))))
        Answer.write([Answer("harm", "id", "SECRET", "insult", "SECRET", True, False)], where / ANSWERS)
        show_refusal(evaluation)

    @flow
    def run() -> None:
        evaluate("unaligned", 1)
        evaluate("aligned", 3)
        show_report(Made(store, store.ref("report", "cd"), folder))
        show_run("smoke-1-ab", store.ref("report", "cd"), store)

    with prefect_test_harness(server_startup_timeout=180), get_client(sync_client=True) as client:
        run()
        return client._client.post("/artifacts/filter", json={}).json()


@pytest.fixture
def refusal_tables(page: list[dict[str, Any]]) -> list[Any]:
    return [json.loads(table["data"]) for table in page if table["key"] == "refusal"]


def told(page: list[dict[str, Any]], key: str) -> str:
    [found] = [artifact for artifact in page if artifact["key"] == key]
    return found["data"]


def test_a_page_that_fails_is_logged_and_ends_no_run(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    damaged = made.store.ref("balance", "ab")
    show_stage(BALANCE, made.store, damaged)  # it has no such artifact
    [line] = caplog.records
    assert line.getMessage() == "balance ab is built, but could not be shown on the page of the run"
    assert line.exc_info is not None and line.exc_info[0] is FileNotFoundError


def test_models_of_a_run_share_one_table(refusal_tables: list[Any]) -> None:
    [[insult, _]] = refusal_tables
    assert list(insult) == ["prompts", "unaligned", "aligned"]


def test_no_prompt_and_no_answer_is_shown(refusal_tables: list[Any]) -> None:
    assert "SECRET" not in str(refusal_tables)


@pytest.mark.parametrize("key", ["report", "summary"])
def test_the_page_names_the_command_that_opens_the_report(key: str, page: list[dict[str, Any]]) -> None:
    [command] = re.findall(r"`(dr-irl report .+?)`", told(page, key))
    run_id, option, store = shlex.split(command)[2:]
    assert (run_id, option, Path(store).name) == ("smoke-1-ab", "--store", "a store")


@pytest.mark.parametrize("key", ["report", "summary"])
def test_a_report_in_a_folder_is_said_to_be_on_this_machine(key: str, page: list[dict[str, Any]]) -> None:
    assert re.search(
        rf"/a store/objects/report/cd/report.html` on {re.escape(socket.gethostname())}\b", told(page, key)
    )


def test_no_link_leads_to_the_disk_of_a_worker(page: list[dict[str, Any]]) -> None:
    assert not any("file://" in str(artifact["data"]) for artifact in page)
