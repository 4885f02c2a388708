"""A published version, copied to a model hub."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import cast

from dr_irl.errors import UserError
from dr_irl.promotion.published import ADAPTER, VERSION_FILE, Version

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_NOT_UPLOADED = shutil.ignore_patterns(ADAPTER, VERSION_FILE, "report.html")
"""The adapter goes to the top, where loaders look for it; the report quotes prompts and answers, and stays here."""


def require_uploadable(repository: str, base_model: str, token: str | None) -> None:
    """Check what can be checked before there is anything to upload.

    Raises:
        UserError: the repository's name is none, there is no token, or nobody could find the base model on the hub.
    """
    if not _HUB_ID.fullmatch(repository):
        raise UserError(f"--hub {repository!r} names no repository; allowed is OWNER/NAME")
    if not token:
        raise UserError("--hub needs a token that may write; set HF_TOKEN")
    if not _HUB_ID.fullmatch(base_model) or Path(base_model).is_dir():
        raise UserError(
            f"the base model {base_model!r} is no hub id, so nobody could load the adapter from the hub; upload the "
            "result of a run whose models.policy is one"
        )


def upload(version: Version, folder: Path, repository: str, token: str) -> str:
    """Upload a version's files, but for the report, tag them with the version, and return the commit's address.

    A repository that does not exist is made, private.

    Raises:
        UserError: the hub refused it or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    # HTTPError of the library that this version of the hub's client asks with: httpx in some, httpx2 in others.
    unreachable = cast(type[Exception], HfHubHTTPError.__bases__[0])
    try:
        with tempfile.TemporaryDirectory() as scratch:
            staged = Path(scratch, "staged")
            shutil.copytree(folder, staged, ignore=_NOT_UPLOADED)
            shutil.copytree(folder / ADAPTER, staged, dirs_exist_ok=True)
            api.create_repo(repository, private=True, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository, folder_path=staged, commit_message=f"{version.name} {version.version}"
            )
            api.create_tag(repository, tag=version.version, revision=commit.oid, exist_ok=True)
            return commit.commit_url
    except (HfHubHTTPError, unreachable, HFValidationError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise UserError(
            f"version {version.version} of {version.name!r} is published, but could not be uploaded to {repository!r}: "
            f"{reason}; check HF_TOKEN, HF_ENDPOINT and the network, then promote the same run again"
        ) from error
