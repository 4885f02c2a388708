"""Whether the Prefect server that is configured can be used: asked before anything is built."""

import base64
import json
import os
import ssl
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dr_irl.artifacts.address import is_loopback, require_url
from dr_irl.errors import StoreError, UserError, without_secrets

_SECONDS = 10
_REMEDY = (
    "start one with 'prefect server start', set PREFECT_API_URL to the address of yours, or unset it: then each run "
    "starts one for itself"
)


def require_server() -> None:
    """Ask the configured server, if there is one, whether it is there, and of a version that this one can talk to.

    Raises:
        UserError: the address is none, nobody answers, somebody else does, or another version.
    """
    settings = _settings()
    if url := settings.get("PREFECT_API_URL"):
        _require(url, version("prefect"), _headers(settings))


def is_configured() -> bool:
    """Tell whether a server is configured, or a profile of Prefect's, which may name one."""
    return bool(os.environ.get("PREFECT_API_URL")) or _profiles().exists()


def _profiles() -> Path:
    return Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser() / "profiles.toml"


def _settings() -> Mapping[str, str]:
    """Return Prefect's settings of its active profile and the environment, without importing it: that takes seconds."""
    try:
        told = tomllib.loads(_profiles().read_text(encoding="utf-8"))
        profile = told["profiles"][os.environ.get("PREFECT_PROFILE") or told["active"]]
    except (OSError, ValueError, KeyError):  # Prefect itself says what is the matter with it
        profile = {}
    return {**profile, **os.environ}


def _headers(settings: Mapping[str, str]) -> dict[str, str]:
    if key := settings.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if user_and_password := settings.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(user_and_password.encode()).decode()}"}
    return {}


def _require(url: str, ours: str, headers: Mapping[str, str]) -> None:
    try:
        require_url(url, "PREFECT_API_URL", "http://127.0.0.1:4200/api")
    except StoreError as error:
        raise UserError(str(error)) from None
    shown = without_secrets(url)
    if (urlsplit(url).hostname or "").endswith(".prefect.cloud"):
        return  # always up, and of every version
    try:
        answer = _ask(url, "admin/version", headers)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise UserError(
                f"the Prefect server at {shown!r} refuses to answer ({error.code}); set PREFECT_API_KEY or "
                "PREFECT_API_AUTH_STRING to what it asks for"
            ) from None
        raise UserError(_stranger(shown, f"it answers with status {error.code}")) from None
    except (OSError, ValueError) as error:
        if isinstance(getattr(error, "reason", error), ssl.SSLError):
            return  # what certificates are trusted is for Prefect's own settings to say
        reason = getattr(error, "reason", None) or error
        raise UserError(f"no Prefect server answers at {shown!r} ({without_secrets(str(reason))}); {_REMEDY}") from None
    try:
        theirs = json.loads(answer)
        numbers = [tuple(int(part) for part in version.split(".")[:2]) for version in (theirs, ours)]
    except (ValueError, AttributeError):
        raise UserError(_stranger(shown, "what it answers is no version of Prefect")) from None
    if numbers[0][0] != numbers[1][0] or numbers[0] < numbers[1]:
        raise UserError(
            f"the Prefect server at {shown!r} is of version {theirs}, and here is {ours}; install the same on both "
            f"sides (pip install prefect=={theirs} here, or {ours} there), or unset PREFECT_API_URL"
        )


def _stranger(url: str, why: str) -> str:
    end = "" if url.rstrip("/").endswith("/api") else ", which ends in /api"
    return f"what answers at {url!r} is no API of a Prefect server: {why}; set PREFECT_API_URL to its address{end}"


def _ask(url: str, path: str, headers: Mapping[str, str]) -> bytes:
    handlers = [urllib.request.ProxyHandler({})] if is_loopback(urlsplit(url).hostname) else []
    opener = urllib.request.build_opener(*handlers)
    parts = urlsplit(url)
    user_and_password, _, host = parts.netloc.rpartition("@")
    if user_and_password:  # urllib would take it for a part of the host
        headers = {**headers, **_headers({"PREFECT_API_AUTH_STRING": unquote(user_and_password)})}
    bare = parts._replace(netloc=host).geturl().rstrip("/")
    request = urllib.request.Request(f"{bare}/{path}", headers=dict(headers))
    with opener.open(request, timeout=_SECONDS) as answer:
        return answer.read(1000)
