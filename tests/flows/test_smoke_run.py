"""The smoke profile end to end through Prefect, as a user runs it: in processes of their own."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DR_IRL = str(Path(sys.executable).with_name("dr-irl"))


def dr_irl(*arguments: str, stdin: str | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DR_IRL, *arguments], input=stdin, capture_output=True, text=True, timeout=400, cwd=cwd)


@pytest.fixture(scope="module")
def smoke(
    tmp_path_factory: pytest.TempPathFactory, prefect_home: Path
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("smoke")
    output = dr_irl("run", "--profile", "smoke", "--store", str(folder / "store"), "--output", str(folder / "out"))
    assert output.returncode == 0, output.stderr
    return folder, output


def test_a_run_ends_with_the_table_and_the_report(smoke: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, output = smoke
    assert "harmful, all" in output.stdout and "benign: look-alike" in output.stdout
    assert str(folder / "out" / "report.html") in output.stdout
    assert (folder / "out" / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_every_stage_that_lasts_reports_progress(smoke: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, output = smoke
    for stage in ("reference completions", "reward insult", "hardness", "GRPO", "evaluate aligned"):
        assert re.search(rf"^{stage} \d+/\d+ ", output.stderr, re.MULTILINE), stage


def test_an_adapter_is_exported_that_names_its_base_model(
    smoke: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    config = json.loads((smoke[0] / "out" / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "bundled:tiny-random-lm"


def test_a_second_run_builds_nothing(smoke: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    store = smoke[0] / "store"
    before = {path: path.stat().st_mtime_ns for path in (store / "objects").rglob("*")}
    again = dr_irl("run", "--profile", "smoke", "--store", str(store))
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in (store / "objects").rglob("*")} == before


def manifests(store: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in sorted(store.glob("objects/**/manifest.json"))]
    return {manifest["stage"]: manifest for manifest in found}


def test_from_a_stage_on_everything_is_built_anew_and_comes_out_the_same(
    smoke: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    store = smoke[0] / "store"
    before = manifests(store)
    again = dr_irl("run", "--profile", "smoke", "--store", str(store), "--from", "grpo")
    assert again.returncode == 0, again.stderr
    after = manifests(store)
    rebuilt = {stage for stage in after if after[stage]["created"] != before[stage]["created"]}
    assert rebuilt == {"grpo", "evaluation/aligned", "report"}
    weights = "adapter/adapter_model.safetensors"
    assert after["grpo"]["files"][weights] == before["grpo"]["files"][weights]


def test_only_a_stage_is_run_with_what_it_needs(tmp_path: Path, prefect_home: Path) -> None:
    done = dr_irl("run", "--profile", "smoke", "--store", str(tmp_path), "--only", "balance")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["sources", "route", "balance"]
    assert set(manifests(tmp_path)) == {"sources", "route", "balance"}


def test_another_store_gets_the_same_bits(smoke: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    assert dr_irl("run", "--profile", "smoke", "--store", str(tmp_path)).returncode == 0

    def adapters(store: Path) -> dict[str, str]:
        manifests = [json.loads(path.read_text()) for path in sorted(store.glob("objects/**/manifest.json"))]
        return {
            f"{m['stage']}/{m['fingerprint']}/{name}": entry["sha256"]
            for m in manifests
            for name, entry in m["files"].items()
            if name.endswith((".safetensors", "examples.parquet", "completions.parquet"))
        }

    assert adapters(tmp_path) == adapters(smoke[0] / "store")


def test_chat_answers_a_pipe_with_both_models(smoke: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    said = dr_irl("chat", "--store", str(smoke[0] / "store"), "--max-new-tokens", "4", stdin="hello\n\nthere\n")
    assert said.returncode == 0, said.stderr
    assert [line.split(":")[0] for line in said.stdout.splitlines() if ":" in line][:2] == ["unaligned", "aligned"]
    assert said.stdout.count("unaligned:") == 2


def test_a_run_that_does_not_exist_is_answered_with_those_that_do(
    smoke: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    failed = dr_irl("chat", "--run", "none-such", "hi", "--store", str(smoke[0] / "store"))
    assert failed.returncode == 2
    assert re.search(r"has no run 'none-such'; it has: smoke-", " ".join(failed.stderr.split()))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--profile", "nope"], ["'nope'", "smoke, demo, laptop, paper"]),
        (["run", "--profile", "smoke", "--set", "grpo.stepz=3"], ["grpo.stepz", "allowed here", "steps"]),
        (["run", "--profile", "smoke", "--set", "grpo.steps=-1"], ["grpo.steps = -1", "more than 0 is allowed"]),
        (["run", "--profile", "smoke", "--set", "grpo.steps"], ["SECTION.NAME=VALUE"]),
        (["run", "--profile", "smoke", "--from", "gripo"], ["'gripo'", "its stages are sources, route", "grpo"]),
        (["plan", "--profile", "smoke", "--only", "gripo"], ["'gripo'", "its stages are sources, route", "grpo"]),
        (["store", "show", "0123"], ["no store at", "--store names another"]),
        (["run", "--profile", "smoke", "--store", "/proc/nowhere"], ["/proc/nowhere", "permissions"]),
        (["run", "--profile", "smoke", "--store", "gs://bucket"], ["gs://bucket", "s3://bucket/prefix"]),
        (["chat", "hi"], ["no store at", "dr-irl run makes one"]),
        (
            ["run", "--profile", "smoke", "--set", "models.policy=no/such-model"],
            ["no/such-model", "bundled models"],
        ),
        (["run", "--profile", "smoke", "--set", "sources.files=[missing.jsonl]"], ["missing.jsonl"]),
    ],
)
def test_a_users_error_is_a_sentence_and_status_2(
    arguments: list[str], words: list[str], tmp_path: Path, prefect_home: Path
) -> None:
    failed = dr_irl(*arguments, cwd=tmp_path)
    assert failed.returncode == 2, failed.stderr
    assert "Traceback" not in failed.stderr + failed.stdout
    for word in words:
        assert word in " ".join(failed.stderr.split()), failed.stderr
