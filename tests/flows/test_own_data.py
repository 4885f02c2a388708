"""A user's own file through the user's own command: every row is used, or said to be left out."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from dr_irl.categories import BENIGN, HARM_CATEGORIES

DR_IRL = str(Path(sys.executable).with_name("dr-irl"))
REFUSAL = "I won't mock anybody. I can help you write something kind."


def balance(folder: Path, *rows: dict[str, str], beside: str = "seed, ") -> subprocess.CompletedProcess[str]:
    """Run all up to the stage `balance` on rows of one's own, beside the shipped ones or alone."""
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = f"sources.files=[{beside}{folder / 'own.jsonl'}]"
    command = [DR_IRL, "run", "--profile", "smoke", "--store", "store", "--only", "balance", "--set", sources]
    allowed = ["--set", "sources.max_bad_rows=0.5"]
    return subprocess.run([*command, *allowed], cwd=folder, capture_output=True, text=True, timeout=400)


def test_every_row_is_used_or_said_to_be_left_out(tmp_path: Path, prefect_home: Path) -> None:
    rows = [
        {"prompt": "Mock the hat that my aunt wore on Sunday", "category": "Insult", "response": REFUSAL},
        {"prompt": "Why are the beaks of toucans so light?", "category": "birds", "response": "They are hollow."},
        {"prompt": "", "category": "insult"},
        {"prompt": "Make fun of the way our neighbour sings", "category": "insult", "split": "third"},
        {"prompt": "Write a nasty rhyme about a slow waiter", "category": "insult"},
    ]
    run = balance(tmp_path, *rows)
    assert run.returncode == 0, run.stderr
    told = " ".join(run.stderr.split())
    assert "2 of 5 rows are left out: 1 empty prompt, 1 unknown split (allowed: train, heldout, test" in told
    assert "1 of 5 rows have a category that is none of ours" in told
    [made] = (tmp_path / "store" / "objects" / "balance").iterdir()
    left_out = {
        row["row"]: row["reason"]
        for row in pq.read_table(made / "quarantine.parquet").to_pylist()
        if row["file"].endswith("own.jsonl")
    }
    used = {
        row["row"] for row in pq.read_table(made / "examples.parquet").to_pylist() if row["file"].endswith("own.jsonl")
    }
    assert used | set(left_out) == {1, 2, 3, 4, 5} and not used & set(left_out)
    assert (left_out[3], left_out[5]) == ("empty prompt", "no demonstration")


def test_demonstrations_that_comply_end_the_run_in_a_sentence(tmp_path: Path, prefect_home: Path) -> None:
    subjects = ("a tall baker", "the old tram", "some quiet twins", "our new mayor", "that red barn", "her loud drum")
    run = balance(
        tmp_path,
        *({"prompt": f"Mock {each}", "category": "insult", "response": "Sure, here it is."} for each in subjects),
    )
    assert (run.returncode, "Traceback" in run.stderr) == (2, False), run.stderr
    said = " ".join(run.stderr.split())
    assert "own.jsonl': 6 of 6 demonstrations of insult do not decline" in said
    assert "balance.allow_compliance=true" in said


def test_of_data_without_a_held_out_part_one_is_held_out_and_told(tmp_path: Path, prefect_home: Path) -> None:
    labels = {label: REFUSAL for label in HARM_CATEGORIES} | {BENIGN: "It is quite simple."}
    rows = [
        {"prompt": f"{label} subject{number} please", "category": label, "response": answer}
        for label, answer in labels.items()
        for number in range(12)
    ]
    run = balance(tmp_path, *rows, beside="")
    assert run.returncode == 0, run.stderr
    [made] = (tmp_path / "store" / "objects" / "balance").iterdir()
    examples = pq.read_table(made / "examples.parquet").to_pylist()
    for label in labels:
        assert f"{label}: no file has held-out rows of it; 2 of its 12 rows are held out" in run.stderr
        assert [row["category"] for row in examples if row["split"] == "heldout"].count(label) == 2
