"""`dr-irl score` and `dr-irl chat --best-of` on a smoke run: commands in processes of their own."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dr_irl.artifacts import Store
from dr_irl.errors import ModelError, UserError
from dr_irl.reward.panel import RewardPanel
from flows.commands.scoring import PanelChoice, score_rows
from flows.commands.terminal import BestOf
from flows.record import RunRecord, finish_run, load_run

DR_IRL = str(Path(sys.executable).with_name("dr-irl"))
ROWS = [
    {"prompt": "Mock my neighbour.", "response": "No.", "category": "insult", "id": 1},
    {"prompt": "How do I boil an egg?", "response": "", "category": "benign", "id": 2},
    {"prompt": "Mock my neighbour.", "response": "With pleasure, and at great length.", "category": "insult", "id": 3},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
NOTE = re.compile(
    r"^best of (\d+): category (\w+), reward (-?\d+\.\d\d) \(from (-?\d+\.\d\d) to (-?\d+\.\d\d)\), "
    r"sampling \d+\.\d\d s, scoring \d+\.\d\d s",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Smoke:
    """A finished run, and what starts commands."""

    store: str
    record: RunRecord
    commands: Any

    def panel(self) -> Path:
        return Store(self.store, read_only=True).fetch(self.record.artifacts["panel"])

    def scores(self) -> list[tuple[float, bool]]:
        """Score `ROWS` without the command."""
        columns = [[str(row[name]) for row in ROWS] for name in ("category", "prompt", "response")]
        models = RewardPanel.load(self.panel())
        return list(zip(models.score(*columns).tolist(), models.cut(*columns[1:]), strict=True))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, make_dr_irl: Callable[..., Any], prefect_api: str) -> Smoke:
    store, commands = str(tmp_path_factory.mktemp("scoring") / "store"), make_dr_irl(prefect_api)
    done = commands.run("run", "--profile", "smoke", "--store", store)
    assert done.wait() == 0, done.err
    return Smoke(store, load_run(Store(store, read_only=True), "latest"), commands)


@pytest.fixture(scope="module")
def expected(smoke: Smoke) -> list[dict[str, Any]]:
    """The rows as they should come out."""
    return [row | {"reward": reward, "cut": cut} for row, (reward, cut) in zip(ROWS, smoke.scores(), strict=True)]


def close(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Allow rewards to differ in the last bits: how many threads add them up is not the same everywhere."""
    return [row | {"reward": pytest.approx(row["reward"], abs=1e-5)} for row in rows]


@pytest.mark.slow
def test_rows_on_standard_input_come_out_with_their_rewards(smoke: Smoke, expected: list[dict[str, Any]]) -> None:
    scored = smoke.commands.run("score", "--store", smoke.store, stdin=LINES)
    assert [json.loads(line) for line in scored.out.splitlines()] == close(expected), scored.err
    assert [row["cut"] for row in expected] == [False, False, True]  # the smoke profile scores 8 tokens


@pytest.mark.slow
def test_a_summary_by_category_goes_to_standard_error(smoke: Smoke, expected: list[dict[str, Any]]) -> None:
    scored = smoke.commands.run("score", "-", "--panel", str(smoke.panel()), stdin=LINES)
    mean = (expected[0]["reward"] + expected[2]["reward"]) / 2
    assert re.search(rf"^insult +2 rows +mean reward +{mean:.2f} +1 cut$", scored.err, re.MULTILINE), scored.err
    assert re.search(r"^benign +1 rows +mean reward +-?\d+\.\d\d +0 cut$", scored.err, re.MULTILINE)
    assert "mental_health" not in scored.err


@pytest.mark.slow
def test_a_table_is_scored_into_a_table(smoke: Smoke, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    output = tmp_path / "scored.parquet"
    scored = smoke.commands.run(
        "score", str(tmp_path / "rows.parquet"), "--store", smoke.store, "--output", str(output)
    )
    assert (scored.wait(), scored.out) == (0, ""), scored.err
    assert pq.read_table(output).to_pylist() == close(expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet", "scored.parquet"]


@pytest.mark.slow
def test_a_file_may_be_scored_into_itself_with_one_category_for_all(smoke: Smoke, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,response\nhi,no\nhi,yes\n")
    score_rows(
        str(path), str(path), PanelChoice(str(smoke.panel()), None, "unused"), category="privacy_property", device="cpu"
    )
    header, *rows = path.read_text().splitlines()
    assert header == "prompt,response,reward,cut"
    assert [re.sub(r"-?\d+\.\d+", "R", row) for row in rows] == ["hi,no,R,false", "hi,yes,R,false"]


@pytest.mark.slow
def test_a_panel_is_read_from_s3_and_rows_from_and_to_it(
    smoke: Smoke, expected: list[dict[str, Any]], moto: Mapping[str, str], s3: Callable[..., Any]
) -> None:
    client = s3(moto)
    for path in smoke.panel().rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "bucket", f"panels/one/{path.relative_to(smoke.panel())}")
    client.put_object(Bucket="bucket", Key="rows.jsonl", Body=LINES.encode())
    places = ("s3://bucket/rows.jsonl", "--panel", "s3://bucket/panels/one", "--output", "s3://bucket/scored.jsonl")
    scored = smoke.commands.run("score", *places, environment=moto)
    assert scored.wait() == 0, scored.err
    body = client.get_object(Bucket="bucket", Key="scored.jsonl")["Body"].read()
    assert [json.loads(line) for line in body.splitlines()] == close(expected)


@pytest.mark.slow
def test_a_users_error_is_a_sentence_and_status_2_and_repeats_no_text(smoke: Smoke) -> None:
    rows = LINES + json.dumps({"prompt": "a secret", "response": "another", "category": "insuit"})
    failed = smoke.commands.run("score", "--store", smoke.store, stdin=rows)
    assert (failed.wait(), failed.out) == (2, "")
    assert failed.err.startswith("dr-irl: line 4 of standard input: there is no reward model for the category 'insuit'")
    assert "secret" not in failed.err


def test_nothing_is_scored_from_a_terminal() -> None:
    primary, terminal = pty.openpty()
    done = subprocess.run([DR_IRL, "score"], stdin=terminal, capture_output=True, text=True, timeout=60)
    os.close(primary)
    os.close(terminal)
    assert (done.returncode, done.stderr) == (
        2,
        "dr-irl: there is nothing to score: name a file, or pipe JSONL into the command\n",
    )


@pytest.mark.parametrize(
    ("file", "output", "said"),
    [
        ("none.csv", None, r"none.csv' is no file"),
        ("rows.txt", None, r"FILE '.*rows.txt' has the suffix '.txt'; allowed are .parquet, .jsonl, .csv$"),
        ("rows.jsonl", "out.xlsx", r"--output '.*out.xlsx' has the suffix '.xlsx'; allowed are"),
        ("rows.jsonl", "none/out.csv", r"none/out.csv' cannot be written: No such file or directory"),
        ("rows.jsonl", "folder.csv", r"folder.csv' is a folder; name a file in it"),
        ("wrong.jsonl", None, r"^line 1 of '.*wrong.jsonl' has no column 'response'; its columns are 'prompt'"),
    ],
)
def test_a_wrong_file_is_told_before_a_panel_is_looked_for(
    tmp_path: Path, file: str, output: str | None, said: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(LINES)
    (tmp_path / "wrong.jsonl").write_text('{"prompt": "p"}\n')
    (tmp_path / "folder.csv").mkdir()
    panel = PanelChoice(None, None, str(tmp_path / "no store"))
    with pytest.raises(UserError, match=said):
        score_rows(str(tmp_path / file), str(tmp_path / output) if output else None, panel, category=None, device="cpu")


@pytest.mark.slow
def test_a_failure_leaves_the_old_output_and_nothing_else(smoke: Smoke, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("old")
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[0] | {"prompt": "x" * 20_000}))
    panel = PanelChoice(None, None, smoke.store)
    with pytest.raises(UserError, match=r"^line 1 of .*: a prompt of \d+ tokens leaves no room for an answer"):
        score_rows(str(tmp_path / "rows.jsonl"), str(tmp_path / "out.csv"), panel, category=None, device="cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "rows.jsonl"]
    assert (tmp_path / "out.csv").read_text() == "old"


@pytest.mark.slow
def test_a_run_that_does_not_exist_is_answered_with_those_that_do(smoke: Smoke) -> None:
    with pytest.raises(UserError, match=r"has no run 'none-such'; it has: smoke-"):
        PanelChoice(None, "none-such", smoke.store).find()


@pytest.mark.slow
def test_a_run_of_an_older_version_has_no_panel(smoke: Smoke, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    finish_run(store, smoke.record.settings, {"grpo": smoke.record.artifacts["grpo"]}, None)
    with pytest.raises(UserError, match=r"^run 'smoke-.*' has no artifact 'panel'"):
        PanelChoice(None, None, store.uri).find()


def test_a_panel_and_a_run_are_one_too_many() -> None:
    with pytest.raises(UserError, match="--panel 'here' and --run 'latest' both name reward models"):
        PanelChoice("here", "latest", "store").find()


def test_a_folder_that_is_not_there_is_no_panel() -> None:
    with pytest.raises(UserError, match="--panel 'no/such' is no folder"):
        PanelChoice("no/such", None, "store").find()


@pytest.mark.slow
@pytest.mark.parametrize("content", ["{", None])
def test_a_damaged_panel_is_told(smoke: Smoke, tmp_path: Path, content: str | None) -> None:
    shutil.copytree(smoke.panel(), tmp_path / "panel")
    config = tmp_path / "panel" / "insult" / "adapter_config.json"
    config.unlink()
    if content is not None:
        config.write_text(content)
    with pytest.raises(ModelError, match=r"the adapter in .*insult cannot be loaded \(.*\); train it again"):
        RewardPanel.load(PanelChoice(str(tmp_path / "panel"), None, "store").find())


def without_times(text: str) -> str:
    return re.sub(r"\d+\.\d\d s", "T s", text)


def chat(smoke: Smoke, *arguments: str, stdin: str = "") -> Any:
    return smoke.commands.run("chat", "--store", smoke.store, "--max-new-tokens", "6", *arguments, stdin=stdin)


@pytest.fixture(scope="module")
def two_prompts(smoke: Smoke) -> Any:
    """The same prompt twice, each answered with the best of four."""
    return chat(smoke, "--best-of", "4", stdin="Mock my neighbour.\nMock my neighbour.\n")


@pytest.mark.slow
def test_the_best_of_several_is_shown_with_its_reward_and_the_range(
    two_prompts: Any,
) -> None:
    notes = NOTE.findall(two_prompts.out)
    assert len(notes) == 2, two_prompts.out + two_prompts.err
    for count, _, reward, lowest, highest in notes:
        assert (count, reward) == ("4", highest)
        assert float(lowest) < float(highest)
    assert two_prompts.out.count("unaligned: ") == two_prompts.out.count("\naligned: ") == 2


@pytest.mark.slow
def test_a_prompt_without_a_category_is_routed_to_one(smoke: Smoke, two_prompts: Any) -> None:
    [first, second] = NOTE.findall(two_prompts.out)
    assert first[1] == second[1]
    assert first[1] in smoke.record.settings.reward_labels
    assert re.search(r"; the router gives this category \d+%$", two_prompts.out, re.MULTILINE)


@pytest.mark.slow
def test_each_prompt_has_draws_of_its_own(two_prompts: Any) -> None:
    [first, second] = NOTE.findall(two_prompts.out)
    assert first != second


@pytest.mark.slow
def test_the_same_command_gives_the_same_answers(smoke: Smoke, two_prompts: Any) -> None:
    again = chat(smoke, "--best-of", "4", stdin="Mock my neighbour.\nMock my neighbour.\n")
    assert without_times(again.out) == without_times(two_prompts.out)


@pytest.mark.slow
def test_the_category_may_be_named(smoke: Smoke) -> None:
    said = chat(smoke, "--best-of", "2", "--category", "privacy_property", "hello")
    [(_, category, *_)] = NOTE.findall(said.out)
    assert (category, "router" in said.out) == ("privacy_property", False)


@pytest.mark.slow
def test_a_category_without_a_reward_model_is_told_with_those_there_are(smoke: Smoke) -> None:
    failed = chat(smoke, "--best-of", "2", "--category", "insuit", "hello")
    assert failed.wait() == 2
    assert re.match(r"dr-irl: --category 'insuit': run 'smoke-.*' has no such .*; it has benign, crimes_", failed.err)


@pytest.mark.slow
def test_a_prompt_routed_to_no_reward_model_is_answered_greedily(smoke: Smoke, tmp_path: Path) -> None:
    """A run whose panel has the one model that no prompt is routed to here."""
    one = tmp_path / "store"
    shutil.copytree(smoke.store, one)
    [path] = (one / "runs").glob("*.json")
    record = json.loads(path.read_text())
    record["artifacts"]["panel"] = record["artifacts"]["reward/insult"]
    path.write_text(json.dumps(record))
    greedy = chat(smoke, "How do I boil an egg?").out
    said = smoke.commands.run(
        "chat", "--store", str(one), "--max-new-tokens", "6", "--best-of", "2", "How do I boil an egg?"
    )
    assert said.out.startswith(greedy), said.err
    assert said.out[len(greedy) :] == (
        "best of 2: no choice, the answer is the greedy one: the prompt was routed to benign, and the run has no "
        "reward model of it; name another with --category: insult\n"
    )


@pytest.mark.parametrize(("temperature", "category"), [(0.5, None), (None, "insult")])
def test_an_option_that_a_greedy_answer_has_no_use_for_is_refused(
    temperature: float | None, category: str | None
) -> None:
    with pytest.raises(
        UserError, match=r"^--(temperature 0.5|category insult) is for several answers, but --best-of is 1"
    ):
        BestOf.checked(1, temperature, category)


def test_several_answers_are_drawn_at_0_7_unless_told_otherwise() -> None:
    assert BestOf.checked(8, None, None) == BestOf(8, 0.7, None)
    assert BestOf.checked(1, None, None) is None
