"""A store under an `s3://` prefix: requests are repeated patiently, and an artifact's manifest is written last."""

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
from botocore.exceptions import FlexibleChecksumError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError
from botocore.parsers import ResponseParserError
from fsspec.asyn import sync
from fsspec.exceptions import FSTimeoutError

from dr_irl.artifacts.address import S3Address
from dr_irl.artifacts.backend import FileDigest, FileStat, Received, Stamp
from dr_irl.artifacts.explain import error_code, explained
from dr_irl.artifacts.keys import MANIFEST_NAME, STAGING
from dr_irl.artifacts.manifest import FileEntry
from dr_irl.artifacts.publish import publish_objects
from dr_irl.artifacts.retry import ATTEMPTS, pauses
from dr_irl.artifacts.s3_options import OPENING_ATTEMPTS, RUNNING_ATTEMPTS, s3_options
from dr_irl.artifacts.transfer import download
from dr_irl.errors import without_secrets

logger = logging.getLogger(__name__)

OPENING_SECONDS = 10
PART_BYTES = 50 * 2**20
"""A file of twice this size and more is uploaded in parts, each repeated by itself."""

_CUT_OFF = (
    aiohttp.ClientPayloadError,
    FlexibleChecksumError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseParserError,
    ResponseStreamingError,
)
"""A body ended early or arrived altered: after the headers, where botocore no longer repeats."""
_REPEAT_WHOLE = ("ConditionalRequestConflict", "OperationAborted", "NoSuchUpload")
_EXISTS = ("PreconditionFailed", "412")
_UNSUPPORTED = ("NotImplemented", "501")
_CHUNK_BYTES = 2**20
_AT_ONCE = 16


class S3Backend:
    """Objects below a prefix; see `Backend`."""

    def __init__(self, address: S3Address, *, opening: bool = False, called: str = "store") -> None:
        """Name the prefix; nothing is asked of the server yet.

        Args:
            address: of the prefix.
            opening: give up within seconds instead of sitting out an outage.
            called: what it is, for the sentences of errors.
        """
        self.uri = uri = address.uri
        self._called = called
        self.conditional: bool | None = None
        """Whether the server refuses to create an object that exists; None until `probe`."""
        self._deadline = OPENING_SECONDS if opening else None
        with explained("open", uri, called):
            from s3fs import S3FileSystem

            options = s3_options(OPENING_ATTEMPTS if opening else RUNNING_ATTEMPTS)
            # Not by fsspec's own reading of addresses: what it takes for a pattern or a chain is a plain name here.
            self._fs: Any = S3FileSystem(**options)
            self._root = f"{address.bucket}/{address.key}".rstrip("/")
        self._fs.retries = 1  # botocore repeats requests already

    def read(self, key: str) -> bytes:
        """Return an object's contents."""
        return self._run("read", self._get, self._path(key))

    def read_foreign(self, key: str) -> bytes:
        """Return an object's contents: a bucket has no links."""
        return self.read(key)

    def read_many(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Return the contents of several objects at once, without those that do not exist."""
        paths = [self._path(key) for key in keys]
        results = self._run("read", self._each, self._get_or_error, [(path,) for path in paths])
        for at, path in enumerate(paths):
            # What broke off is read again by itself: the chance that none of many does is small.
            if isinstance(results[at], Exception):
                results[at] = self._run("read", self._get_if_there, path)
        return {key: content for key, content in zip(keys, results, strict=True) if content is not None}

    def digest(self, key: str) -> FileDigest:
        """Return the size and SHA-256 of an object as it is sent, without keeping it."""
        return self._run("read", self._digest, self._path(key))

    def download(self, key: str, path: Path) -> None:
        """Copy an object to a local file."""
        self._run("read", self._fs._get_file, self._path(key), str(path))

    def upload(self, path: Path, key: str) -> None:
        """Copy a local file to an object, in parts where it is large."""
        self._run("write", self._fs._put_file, str(path), self._path(key), chunksize=PART_BYTES)

    def size(self, key: str) -> int | None:
        """Return the bytes of an object, or None if there is none."""
        stamp = self.stamp(key)
        return None if stamp is None else stamp.size

    def stamp(self, key: str) -> Stamp | None:
        """Return what the server says of an object's contents, or None if there is no such object."""
        return self._run("read", self._stamp, self._path(key))

    def stamps(self) -> Mapping[str, Stamp]:
        """Return what the server says of every object below the root, by its key."""
        return {key: _stamp(entry["Size"], entry) for key, entry in self._listed("")}

    def receive(self, key: str, path: Path) -> Received:
        """Copy an object to a local file, and return what arrived."""
        return self._run("read", self._receive, self._path(key), path)

    def write(self, key: str, content: bytes) -> None:
        """Create or replace an object."""
        self._run("write", self._fs._pipe_file, self._path(key), content)

    def create(self, key: str, content: bytes, *, settle_seconds: float = 0.0) -> bool:
        """Create an object unless there is one.

        Where the server cannot decide who is first, the last to write within `settle_seconds` is.
        """
        if self.conditional is None:
            self.probe()
        if self.conditional:
            if self._run("write", self._put_new, self._path(key), content):
                return True
        elif not self.read_many([key]):
            self.write(key, content)
            time.sleep(settle_seconds)
        # Also after a refusal: a request that was repeated may have been refused because of its first attempt.
        return self.read_many([key]).get(key) == content

    def names(self) -> Sequence[str]:
        """Return the names directly below the root, of the first thousand."""
        bucket, prefix = self._bucket_and_prefix("")
        page = self._run("open", self._fs._call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, Delimiter="/")
        found = [entry["Key"] for entry in page.get("Contents", [])]
        found += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        return sorted(name for key in found if (name := key.removeprefix(prefix).rstrip("/")))

    def files(self, prefix: str) -> Mapping[str, FileStat]:
        """Return every object below `prefix`, by its key."""
        return {key: FileStat(e["Size"], e["LastModified"].timestamp()) for key, e in self._listed(prefix)}

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, several at once."""
        self._run("write", self._each, self._fs._rm_file, [(self._path(key),) for key in keys])

    def delete_tree(self, prefix: str) -> None:
        """Delete everything below `prefix`."""
        self.delete(self.files(prefix))

    def move(self, prefix: str, target: str) -> None:
        """Copy everything below `prefix`, then delete it, the manifest first: no reader takes the rest for whole."""
        keys = sorted(self.files(prefix), key=lambda key: not key.endswith(f"/{MANIFEST_NAME}"))
        pairs = [(self._path(key), self._path(f"{target}{key.removeprefix(prefix)}")) for key in keys]
        self._run("write", self._each, self._copy, pairs)
        for part in (keys[:1], keys[1:]):
            self.delete(part)

    def publish(self, staged: Path, prefix: str, manifest: bytes, *, replace: bool) -> None:
        """Upload every file, check that all arrived whole, and write the manifest last."""
        publish_objects(self, staged, prefix, manifest, replace=replace)

    def bring(self, prefix: str, files: Mapping[str, FileEntry], cache: Path, *, trusted: bool) -> Path:
        """Download what `cache` lacks of an artifact, verified."""
        download(self, prefix, files, cache, trusted=trusted)
        return cache

    def probe(self) -> None:
        """Write and delete a small object; learns whether the server honours `If-None-Match`."""
        path = self._path(f"{STAGING}/probe-{uuid.uuid4().hex}")
        self._run("open", self._fs._pipe_file, path, b"written")
        self.conditional = not self._run("open", self._put_new, path, b"written again")
        self._run("open", self._fs._rm_file, path)
        if not self.conditional:
            logger.info("%s overwrites where it is asked not to; two runs may build one artifact twice", self.uri)

    def _listed(self, prefix: str) -> Iterator[tuple[str, Any]]:
        """Give the key and the server's entry of every object below `prefix`."""
        bucket, below = self._bucket_and_prefix(prefix)
        _, root = self._bucket_and_prefix("")
        more: dict[str, str] = {}
        while True:
            page = self._run("list", self._fs._call_s3, "list_objects_v2", Bucket=bucket, Prefix=below, **more)
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith("/"):  # what consoles leave to show an empty folder
                    yield entry["Key"].removeprefix(root), entry
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _run(self, action: str, method: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
        with explained("open" if self._deadline else action, self.uri, self._called):
            for pause in pauses():
                try:
                    return sync(self._fs.loop, method, *args, timeout=self._deadline, **kwargs)
                except FSTimeoutError:
                    raise TimeoutError(f"the endpoint gave no answer within {self._deadline} s") from None
                except Exception as error:
                    if not isinstance(error, _CUT_OFF) and error_code(error) not in _REPEAT_WHOLE:
                        raise
                    if pause is None:
                        raise ConnectionError(
                            f"the transfer broke off {ATTEMPTS} times, last with: {without_secrets(str(error))}"
                        ) from error
                    logger.info("repeating a request to %s that broke off: %s", self.uri, without_secrets(str(error)))
                    time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def _get(self, path: str) -> bytes:
        bucket, key, _ = self._fs.split_path(path)
        answer = await self._fs._call_s3("get_object", Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            return await body.read()

    async def _receive(self, path: str, target: Path) -> Received:
        bucket, key, _ = self._fs.split_path(path)
        answer = await self._fs._call_s3("get_object", Bucket=bucket, Key=key)
        size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        with target.open("wb") as file:
            async with answer["Body"] as body:
                while chunk := await body.read(_CHUNK_BYTES):
                    size += file.write(chunk)
                    sha256.update(chunk)
                    md5.update(chunk)
        # With a key of the server's user an ETag is no hash of the contents.
        plain = answer.get("ServerSideEncryption") in (None, "AES256") and "SSECustomerAlgorithm" not in answer
        stamp = _stamp(answer["ContentLength"], answer)
        return Received(stamp, size, sha256.hexdigest(), md5.hexdigest() if plain else None)

    async def _stamp(self, path: str) -> Stamp | None:
        bucket, key, _ = self._fs.split_path(path)
        try:
            answer = await self._fs._call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        return _stamp(answer["ContentLength"], answer)

    async def _get_if_there(self, path: str) -> bytes | None:
        try:
            return await self._get(path)
        except FileNotFoundError as error:
            if error_code(error) == "NoSuchBucket":
                raise
            return None

    async def _get_or_error(self, path: str) -> bytes | Exception | None:
        try:
            return await self._get_if_there(path)
        except _CUT_OFF as error:
            return error

    async def _put_new(self, path: str, content: bytes) -> bool:
        try:
            await self._fs._pipe_file(path, content, mode="create")
        except OSError as error:
            if error_code(error) in _EXISTS:
                return False
            if error_code(error) not in _UNSUPPORTED:
                raise
            await self._fs._pipe_file(path, content)
        return True

    async def _copy(self, path: str, target: str) -> None:
        with suppress(FileNotFoundError):  # another run moved it meanwhile
            await self._fs._cp_file(path, target)

    async def _digest(self, path: str) -> FileDigest:
        bucket, key, _ = self._fs.split_path(path)
        answer = await self._fs._call_s3("get_object", Bucket=bucket, Key=key)
        size, digest = 0, hashlib.sha256()
        async with answer["Body"] as body:
            while chunk := await body.read(_CHUNK_BYTES):
                size += len(chunk)
                digest.update(chunk)
        return FileDigest(size, digest.hexdigest())

    async def _each(self, method: Callable[..., Awaitable[Any]], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        results: list[Any] = []
        for start in range(0, len(calls), _AT_ONCE):
            results += await asyncio.gather(*(method(*call) for call in calls[start : start + _AT_ONCE]))
        return results

    def _bucket_and_prefix(self, key: str) -> tuple[str, str]:
        bucket, _, prefix = self._path(key).rstrip("/").partition("/")
        return bucket, f"{prefix}/" if prefix else ""

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}"


def _stamp(size: int, told: Mapping[str, Any]) -> Stamp:
    return Stamp(size, str(told["ETag"]).removeprefix("W/").strip('"'))
