"""What a model's name stands for."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dr_irl.errors import ModelError, StoreError
from dr_irl.language.resolve import model_identity, resolve_model

COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder of one's own with the tiny model in it."""
    return Path(shutil.copytree(resolve_model("bundled:tiny-random-lm"), tmp_path / "model"))


@pytest.fixture
def downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Lay out the hub's cache as if a revision had been downloaded; the hub itself is out of reach."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def lay_out(revision: str, commit: str) -> None:
        folder = tmp_path / "models--org--model"
        for name, text in ((f"refs/{revision}", commit), (f"snapshots/{commit}/config.json", "{}")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    return lay_out


@pytest.mark.parametrize("name", ["no/such-model", "/no/such/folder", "./nowhere", "a b"])
def test_a_name_that_leads_nowhere_is_shown_with_what_is_allowed(name: str) -> None:
    with pytest.raises(ModelError, match=rf"model '{name}' is no bundled model, folder or reachable hub id"):
        resolve_model(name)


def test_changed_weights_are_another_model(copied: Path) -> None:
    before = model_identity(str(copied))
    with (copied / "model.safetensors").open("ab") as stream:
        stream.write(b"0")
    assert model_identity(str(copied)) != before


def test_a_branch_of_a_hub_model_is_the_commit_it_stands_for(downloaded: Callable[[str, str], None]) -> None:
    downloaded("main", COMMIT)
    assert model_identity("org/model") == f"org/model@{COMMIT}"


def test_a_branch_that_moved_is_another_model(downloaded: Callable[[str, str], None]) -> None:
    downloaded("main", COMMIT)
    before = model_identity("org/model", "main")
    downloaded("main", OTHER)
    assert model_identity("org/model", "main") != before


def test_a_commit_needs_no_hub() -> None:
    assert model_identity("org/model", COMMIT) == f"org/model@{COMMIT}"


def test_a_revision_that_nobody_knows_is_told_in_one_sentence(downloaded: Callable[[str, str], None]) -> None:
    downloaded("main", COMMIT)
    with pytest.raises(ModelError, match="model 'org/model' is no bundled model, folder or reachable hub id"):
        model_identity("org/model", "v9")


@pytest.mark.parametrize("ask", [model_identity, resolve_model])
def test_an_s3_model_out_of_reach_is_told_in_one_sentence(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    with pytest.raises(StoreError, match="cannot open the model 's3://bucket/model': .*check that the endpoint is up"):
        ask("s3://bucket/model")


def test_a_file_in_a_folder_of_a_model_counts_for_what_it_is_and_a_hidden_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    before = model_identity(str(tmp_path))
    (tmp_path / ".git" / "HEAD").write_text("main")
    assert model_identity(str(tmp_path)) == before
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": false}')
    assert model_identity(str(tmp_path)) != before
