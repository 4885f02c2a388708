"""What went wrong with a store, each as one sentence that says what to do. Secrets are never part of it."""

import builtins
import errno
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)

from dr_irl.artifacts.address import is_on_s3
from dr_irl.errors import StoreError, StoreUnreachableError, without_secrets

_FAILURES = (OSError, BotoCoreError, ClientError)
_CONNECTION = (ConnectionError, builtins.ConnectionError, HTTPClientError, TimeoutError)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of the last: a limit on the size of files."""

_ENDPOINT = "write endpoint_url in ~/.aws/config with its scheme, for example http://localhost:9000"
_RENEW = "the credentials have expired; renew them (with AWS SSO: aws sso login) and run again"
_DENIED = (
    "access is denied; grant the credentials s3:ListBucket on the bucket and s3:GetObject, s3:PutObject and "
    "s3:DeleteObject on the prefix, or use others (AWS_* variables)"
)
_WRONG_KEY = "the server does not know the access key; check AWS_ACCESS_KEY_ID, AWS_PROFILE and AWS_ENDPOINT_URL"
_WRONG_SECRET = "the secret key does not match the access key; check AWS_SECRET_ACCESS_KEY"
_WRONG_REGION = "the bucket is in another region; set AWS_DEFAULT_REGION to that of the bucket"
_OVERLOADED = "the server kept answering that it is overloaded or failing; run again later, finished stages are kept"
_NO_CREDENTIALS = (
    "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile you have"
)
_REASONS = {
    "NoSuchBucket": "no such bucket; create it",
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "ExpiredToken": _RENEW,
    "TokenRefreshRequired": _RENEW,
    "InvalidAccessKeyId": _WRONG_KEY,
    "InvalidToken": _RENEW,
    "SignatureDoesNotMatch": _WRONG_SECRET,
    "RequestTimeTooSkewed": "this machine's clock is too far from the server's; set the clock",
    "PermanentRedirect": _WRONG_REGION,
    "AuthorizationHeaderMalformed": _WRONG_REGION,
    "301": _WRONG_REGION,
    **dict.fromkeys(
        ("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "429"), _OVERLOADED
    ),
    **dict.fromkeys(("InternalError", "ServiceUnavailable", "500", "502", "503", "504"), _OVERLOADED),
}


@contextmanager
def explained(action: str, uri: str, called: str = "store") -> Iterator[None]:
    """Tell failures of the block as a StoreError; what is not there to be read stays a FileNotFoundError.

    Args:
        action: what the block does: `open`, `read`, `list` or `write`.
        uri: the place it does that to.
        called: what the place is, in the sentence.

    Raises:
        StoreError: the block failed for a reason outside this program.
    """
    try:
        yield
    except ValueError as error:
        # botocore, of an endpoint that a profile of ~/.aws/config names; the environment's is looked at before.
        if not str(error).startswith("Invalid endpoint"):
            raise
        raise StoreError(f"cannot {action} the {called} {uri!r}: {str(error).lower()}; {_ENDPOINT}") from error
    except _FAILURES as error:
        code = error_code(error)
        absent = isinstance(error, FileNotFoundError) and code != "NoSuchBucket"
        if absent and (action in ("read", "list") or code == "NoSuchKey"):
            raise
        kind = StoreUnreachableError if _may_pass(error) else StoreError
        raise kind(f"cannot {action} the {called} {uri!r}: {_reason(error, uri)}") from error


def error_code(error: BaseException) -> str | None:
    """Return the code an S3 server answered with; s3fs hides it behind an OSError."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ClientError):
            return str(seen.response.get("Error", {}).get("Code"))
        seen = seen.__cause__
    return None


def is_full_disk(error: BaseException) -> bool:
    """Tell whether a write failed for want of space; safetensors says so in words only."""
    return getattr(error, "errno", None) in _FULL or "No space left on device" in str(error)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, _CONNECTION) or _REASONS.get(error_code(error) or "") is _OVERLOADED


def _reason(error: BaseException, uri: str) -> str:
    code = error_code(error)
    if code is not None and code in _REASONS:
        return f"{_REASONS[code]} ({code})" if code != "NoSuchBucket" else _REASONS[code]
    said = without_secrets(str(error)).rstrip(".")
    if is_full_disk(error):
        return f"{said}: no space is left; free some"
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, ProfileNotFound)):
        return f"{_NO_CREDENTIALS} ({said})"
    if isinstance(error, (TokenRetrievalError, CredentialRetrievalError)):
        return f"{_RENEW} ({said})"
    if isinstance(error, _CONNECTION):
        return f"{said}; check that the endpoint is up and that AWS_ENDPOINT_URL names it"
    if is_on_s3(uri):
        return f"{said}; check the bucket and prefix, endpoint and credentials (AWS_* variables)"
    return f"{said}; check the path, free space and permissions"
