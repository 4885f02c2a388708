"""What an address stands for, and what is said of a slip."""

from pathlib import Path

import pytest

from dr_irl.artifacts.address import S3Address, is_loopback, parse_address, parse_path, require_url, s3_endpoint
from dr_irl.artifacts.s3_options import s3_options
from dr_irl.errors import StoreError, UserError, without_secrets


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("S3://bucket/a/b", "bucket", "a/b"),
        ("s3://bucket/a/b/", "bucket", "a/b"),
        ("s3://bucket/a [1]/*?{b}", "bucket", "a [1]/*?{b}"),
        ("s3://bucket/~/a::b", "bucket", "~/a::b"),
    ],
)
def test_a_place_on_s3_is_read_as_it_is_written(text: str, bucket: str, key: str) -> None:
    assert parse_address(text, "store") == S3Address(bucket, key)


@pytest.mark.parametrize("text", ["store", "./s3:bucket", "/a/b c", "a:b", "x[1]", "../store"])
def test_what_has_no_scheme_is_a_path(text: str) -> None:
    assert parse_address(text, "store") == Path(text)


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert parse_address("~/store", "store") == Path("/somewhere/store")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s3://", "this is no place on S3; write s3://bucket/prefix"),
        ("s3:/bucket/run", "write s3://bucket/run, or ./s3:/bucket/run if it is a file of this machine"),
        ("s3:bucket", "write s3://bucket, or"),
        ("s3:///run", "write s3://run"),
        ("s3a://bucket/run", "write s3://bucket/run"),
        ("s3://bucket/../run", "a part of it is empty, '.' or '..'"),
        ("s3://bucket//run", "a part of it is empty, '.' or '..'"),
        ("s3://a bucket/run", "'a bucket' is no name of a bucket"),
        ("simplecache::s3://bucket/run", "chains of file systems"),
        ("zip://a::/b", "zip: is not supported; copy it"),
        ("gs://bucket/run", "gs: is not supported; copy it"),
        ("https:/host/run", "https: is not supported; copy it"),
        ("file:///run", "file: is not supported; write the path itself"),
        ("", "it is empty; name a path, or s3://bucket/prefix"),
        (" ", "it is empty"),
        ("s3://bucket/run\n", "begins or ends with a space"),
        ("a\0b", "cannot be seen"),
        ("~nobody-of-that-name/store", "what '~' stands for is not known; write the whole path, or set HOME"),
    ],
)
def test_a_slip_is_told_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_address(text, "store")
    assert (said in str(caught.value), str(caught.value).count("\n")) == (True, 0), caught.value


SECRET = "planted/secret+0123456789"


@pytest.mark.parametrize(
    "text",
    [
        f"s3://KEY:{SECRET}@bucket/run",
        f"s3:/KEY:{SECRET}@bucket",
        f"s3:KEY:{SECRET}@bucket",
        f"https://user:{SECRET}@host/run",
        f"https://user:{SECRET}@with@host/run",
        f"https://host/run?X-Amz-Signature={SECRET}",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_address(text, "store")
    assert "secret" not in str(caught.value) and "***" in str(caught.value)


def test_text_that_is_no_secret_stays() -> None:
    text = 'no host at "http://127.0.0.1:9/bucket/run", for s3://bucket/a?b; ask me@example.org'
    assert without_secrets(text) == text


def test_a_file_that_is_written_here_only_is_no_place_on_s3() -> None:
    with pytest.raises(UserError, match="--output 's3://bucket/out': this is written to this machine only"):
        parse_path("s3://bucket/out", "--output")


@pytest.mark.parametrize("url", ["localhost:9000", "//localhost:9000", "http://", "http://host:port", "ftp://host"])
def test_an_endpoint_that_is_none_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with pytest.raises(StoreError, match=f"AWS_ENDPOINT_URL is '{url}', .*write scheme, host and port: http://"):
        s3_endpoint()


def test_the_endpoint_of_s3_alone_goes_before_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://other:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://[::1]:2")
    found = s3_endpoint()
    assert found is not None and (found.hostname, found.port) == ("::1", 2)


def test_an_address_of_a_server_passes() -> None:
    require_url("https://user:password@host:9000/path", "AWS_ENDPOINT_URL", "")


@pytest.mark.parametrize(
    ("host", "here"), [("localhost", True), ("127.0.0.9", True), ("::1", True), ("10.0.0.1", False), ("minio", False)]
)
def test_this_machine_is_known_by_its_names(host: str, here: bool) -> None:
    assert is_loopback(host) is here


@pytest.mark.parametrize(
    ("url", "direct"), [("http://127.0.0.1:9000", True), ("http://[::1]:9000", True), ("http://minio:9000", False)]
)
def test_a_server_of_this_machine_is_asked_without_a_proxy(
    url: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    assert ("proxies" in s3_options(1)["config_kwargs"]) is direct
