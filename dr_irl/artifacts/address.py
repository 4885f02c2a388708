"""Where something lies, as a user writes it: a path of this machine or `s3://bucket/key`. Nothing else reads addresses.

What is neither ends in one sentence: taken for a path, a slip such as `s3:/bucket/run` would make a folder.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from dr_irl.errors import StoreError, UserError, without_secrets

S3 = "s3://"
_ALLOWED = "a path, or s3://bucket/prefix"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/*)(.*)", re.DOTALL)
_CHAIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*::")
_S3_SLIPS = ("s3", "s3a", "s3n")
_ELSEWHERE = ("abfs", "az", "file", "gcs", "gs", "hdfs", "hf", "http", "https")
"""Schemes that are taken for a slip even where their slashes are missing."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True)
class S3Address:
    """A place on S3."""

    bucket: str
    key: str
    """Parts joined by `/`, each taken as it is written: no character of it is a pattern. Empty for the whole bucket."""

    @property
    def uri(self) -> str:
        """The place in the one form that other tools read too."""
        return f"{S3}{self.bucket}/{self.key}" if self.key else f"{S3}{self.bucket}"


def parse_address(text: str, what: str, error: type[UserError] = UserError) -> Path | S3Address:
    """Read an address: `~` is the home folder, a slash at the end is nothing.

    Args:
        text: the address.
        what: what it is the address of, for the sentence: `store`, `--output`.
        error: what to raise.

    Raises:
        UserError: of the kind `error`: it is neither a path nor a place on S3; secrets in it are not repeated.
    """

    def refused(reason: str, do: str) -> UserError:
        return error(f"{what} {without_secrets(text)!r}: {reason}; {do}")

    if not text.strip():
        raise refused("it is empty", f"name {_ALLOWED}")
    if text != text.strip() or not text.isprintable():
        raise refused("it begins or ends with a space, or holds a character that cannot be seen", "write it without")
    if _CHAIN.match(text) or ("::" in text and "://" in text.partition("::")[2]):
        raise refused("chains of file systems ('::') are not supported", f"name {_ALLOWED}")
    scheme, slashes, rest = match.groups() if (match := _SCHEME.fullmatch(text)) else ("", "", "")
    scheme = scheme.lower()
    if scheme in _S3_SLIPS:
        if (scheme, slashes) != ("s3", "//") or not rest:
            meant = f"{S3}{rest}" if rest and "@" not in rest else "s3://bucket/prefix"
            local = "" if slashes.startswith("//") or "@" in rest else f", or ./{text} if it is a file of this machine"
            raise refused("this is no place on S3", f"write {meant}{local}")
        return _on_s3(rest, refused)
    if slashes.startswith("//") or scheme in _ELSEWHERE:
        do = "write the path itself" if scheme == "file" else f"copy it to this machine or to S3, and name {_ALLOWED}"
        raise refused(f"{scheme}: is not supported", do)
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise refused("what '~' stands for is not known", "write the whole path, or set HOME") from None


def parse_path(text: str, what: str, error: type[UserError] = UserError) -> Path:
    """Read an address that must be a path of this machine; see `parse_address`."""
    place = parse_address(text, what, error)
    if isinstance(place, S3Address):
        raise error(f"{what} {text!r}: this is written to this machine only; name a path")
    return place


def is_on_s3(text: str) -> bool:
    """Tell whether an address, right or not, is meant for S3."""
    return text.lower().startswith(S3)


def require_no_secret(text: str, what: str, error: type[UserError] = UserError) -> None:
    """Refuse a text that would be stored or shown, and holds an address with a password.

    Raises:
        UserError: of the kind `error`; it shows the text without the secret.
    """
    if (cut := without_secrets(text)) != text:
        raise error(f"{what} {cut!r}: {_NO_SECRETS}")


def _on_s3(rest: str, refused: Callable[[str, str], UserError]) -> S3Address:
    bucket, _, key = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        raise refused("an address holds no credentials and no host", _NO_SECRETS)
    if not _BUCKET.fullmatch(bucket):
        raise refused(f"{bucket!r} is no name of a bucket", "write s3://bucket/prefix")
    key = key.rstrip("/")
    if key and any(part in ("", ".", "..") for part in key.split("/")):
        raise refused("a part of it is empty, '.' or '..', which means nothing on S3", "write it without")
    return S3Address(bucket, key)


_NO_SECRETS = (
    "give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and a host by AWS_ENDPOINT_URL: "
    "an address is logged and stored"
)


def s3_endpoint() -> SplitResult | None:
    """Return the S3 server that the environment names; None for Amazon's, or where ~/.aws/config names one.

    Raises:
        StoreError: it is no address of a server.
    """
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if url := os.environ.get(name):
            require_url(url, name, "http://localhost:9000")
            return urlsplit(url)
    return None


def require_url(url: str, what: str, example: str) -> None:
    """Check that a text is the address of a server.

    Raises:
        StoreError: it has no scheme, no host or another port than a number.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or url != url.strip():
        raise StoreError(f"{what} is {url!r}, which is no address of a server; write scheme, host and port: {example}")


def is_loopback(host: str | None) -> bool:
    """Tell whether a host is this machine by its name: what is sent there is nothing for a proxy."""
    if host is None or host.lower() == "localhost":
        return host is not None
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
