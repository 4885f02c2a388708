"""Credentials are used and never written: not to the store, the output, the terminal, Prefect's database or a cache."""

import base64
import itertools
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# With characters that other encodings change.
PLANTED = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED/KEY+0123",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+key=0123456789/abcdefghij",
    "AWS_SESSION_TOKEN": "planted//session+token==0123456789/klmnopqrst",
}


def encodings(value: str) -> set[bytes]:
    """Return how a value may be written, but for the ends of base64, which depend on what stands beside it."""
    raw = value.encode()
    quoted = {urllib.parse.quote(value, safe="").encode(), urllib.parse.quote(value).encode()}
    inside = set()
    for encode, offset in itertools.product((base64.b64encode, base64.urlsafe_b64encode), range(3)):
        # Of three bytes come four letters: those that only the value decides start after at most one group.
        inside.add(encode(b"\0" * offset + raw)[4 : (offset + len(raw)) // 3 * 4])
    return {raw, raw.hex().encode()} | quoted | inside


def leaks(written: Mapping[str, bytes]) -> list[str]:
    """Return where which of the values was written."""
    return [
        f"{name} in {place}"
        for place, content in written.items()
        for name, value in PLANTED.items()
        if any(encoded in content for encoded in encodings(value))
    ]


@dataclass(frozen=True)
class Traces:
    """A run with credentials, and everything it wrote."""

    run: Any
    written: dict[str, bytes]
    """Place -> contents."""


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(folder.parent)), path.name.encode() + path.read_bytes()


def objects(client: Any) -> Iterator[tuple[str, bytes]]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="bucket"):
        for entry in page.get("Contents", []):
            answer = client.get_object(Bucket="bucket", Key=entry["Key"])
            headers = repr(answer["ResponseMetadata"]["HTTPHeaders"]) + repr(answer["Metadata"])
            yield f"s3://bucket/{entry['Key']}", entry["Key"].encode() + headers.encode() + answer["Body"].read()


def traces(
    make_dr_irl: Callable[..., Any], moto: Mapping[str, str], client: Any, folder: Path, *arguments: str
) -> Traces:
    """Run a command with the values in its environment, and a Prefect server of its own in a home of its own."""
    commands = make_dr_irl()
    environment = {**moto, **PLANTED, "DR_IRL_CACHE": str(folder / "cache")}
    run = commands.run(*arguments, environment=environment)
    run.wait()
    places = (folder, commands.home, run.folder)  # the last with what it said
    return Traces(run, dict(itertools.chain(objects(client), *(files(place) for place in places))))


@pytest.fixture(scope="module")
def good(
    make_dr_irl: Callable[..., Any],
    moto: Mapping[str, str],
    s3: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Traces:
    """A run that ended well."""
    folder = tmp_path_factory.mktemp("good")
    arguments = ["run", "--profile", "smoke", "--store", "s3://bucket/secrets", "--output", str(folder / "out")]
    traced = traces(make_dr_irl, moto, s3(moto), folder, *arguments, "--debug")
    assert traced.run.wait() == 0, traced.run.err
    return traced


@pytest.mark.parametrize("encode", [bytes, base64.b64encode, base64.urlsafe_b64encode, urllib.parse.quote_from_bytes])
@pytest.mark.parametrize("before", ["", "a", "ab"])
@pytest.mark.parametrize("name", PLANTED)
def test_the_search_finds_what_was_written(name: str, before: str, encode: Callable[[bytes], bytes | str]) -> None:
    encoded = encode(f"{before}{PLANTED[name]}; and more".encode())
    content = encoded.encode() if isinstance(encoded, str) else encoded
    assert leaks({"here": b"\0" + content}) == [f"{name} in here"]


@pytest.mark.slow
def test_a_run_writes_no_credential_anywhere(good: Traces) -> None:
    assert leaks(good.written) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    ["s3://bucket/secrets/objects/", "s3://bucket/secrets/runs/", "good0/out/", "good0/cache/", "prefect/", "0/err"],
)
def test_the_search_looks_at_all_that_a_run_writes(place: str, good: Traces) -> None:
    assert any(place in written for written in good.written)


@pytest.mark.slow
def test_the_search_looks_into_the_database_of_prefect(good: Traces) -> None:
    assert any(content.startswith(b"prefect.dbSQLite format 3") for content in good.written.values())


@pytest.mark.slow
@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["quiet", "debug"])
def test_a_run_that_fails_writes_no_credential_anywhere(
    debug: list[str],
    make_dr_irl: Callable[..., Any],
    moto: Mapping[str, str],
    s3: Callable[..., Any],
    tmp_path: Path,
) -> None:
    arguments = ["run", "--profile", "smoke", "--store", "s3://no-such-bucket/secrets", *debug]
    failed = traces(make_dr_irl, moto, s3(moto), tmp_path, *arguments)
    assert (failed.run.wait() != 0, leaks(failed.written)) == (True, [])
