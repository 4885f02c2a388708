"""Each failure in its own sentence, with what to do; the codes are answered by a real server or in front of one."""

import errno
import logging
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fault_proxy
import pytest
import s3fs

from dr_irl.artifacts import Store
from dr_irl.artifacts import s3 as s3_module
from dr_irl.artifacts.explain import explained
from dr_irl.artifacts.store import Identity
from dr_irl.errors import StoreError

ACCESS_KEY, SECRET = "planted-access-key", "planted-secret-0123456789"
UseEndpoint = Callable[[str], None]


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (403, "AccessDenied", "access is denied; grant the credentials s3:ListBucket"),
        (403, "InvalidAccessKeyId", "does not know the access key; check AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "the secret key does not match.*check AWS_SECRET_ACCESS_KEY"),
        (400, "ExpiredToken", "the credentials have expired; renew them"),
        (400, "TokenRefreshRequired", "the credentials have expired; renew them"),
        (403, "RequestTimeTooSkewed", "clock is too far from the server's; set the clock"),
        (503, "SlowDown", "kept answering that it is overloaded or failing; run again later"),
        (500, "InternalError", "kept answering that it is overloaded or failing; run again later"),
        (503, "ServiceUnavailable", "kept answering that it is overloaded or failing; run again later"),
        (404, "NoSuchBucket", "no such bucket; create it"),
        (400, "AuthorizationHeaderMalformed", "in another region; set AWS_DEFAULT_REGION"),
        (418, "Teapot", "on purpose; check the bucket and prefix, endpoint and credentials"),
    ],
)
def test_an_answer_is_told_with_what_to_do(proxy: Any, status: int, code: str, told: str) -> None:
    proxy.plan = lambda method, path: fault_proxy.Refusal(status, code)
    with pytest.raises(StoreError, match=f"cannot open the store 's3://bucket/prefix': .*{told}"):
        Store("s3://bucket/prefix")


def test_a_missing_bucket_is_one_sentence(moto_uri: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store("s3://no-such-bucket/prefix")
    assert str(caught.value) == "cannot open the store 's3://no-such-bucket/prefix': no such bucket; create it"


def test_an_error_of_the_store_is_the_users_to_mend(moto_uri: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store("s3://no-such-bucket/prefix")
    assert caught.value.exit_status == 2


def test_a_wrong_secret_is_told(rclone_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another secret")
    monkeypatch.setattr(s3fs.S3FileSystem, "_cache", {})
    with pytest.raises(StoreError, match="the secret key does not match the access key"):
        Store(rclone_uri)


def test_a_credential_that_may_only_read_is_told_when_a_run_opens_the_store(
    proxy: Any,
) -> None:
    proxy.plan = lambda method, path: fault_proxy.Refusal(403, "AccessDenied") if method == "PUT" else None
    with pytest.raises(StoreError, match="cannot open the store .*access is denied"):
        Store("s3://bucket/read-only")


def test_a_credential_that_may_only_read_can_read(proxy: Any) -> None:
    proxy.plan = lambda method, path: fault_proxy.Refusal(403, "AccessDenied") if method == "PUT" else None
    assert Store("s3://bucket/read-only", read_only=True).refs() == []


def test_absent_credentials_are_told(moto_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(s3fs.S3FileSystem, "_cache", {})
    with pytest.raises(StoreError, match="no credentials were found; set AWS_ACCESS_KEY_ID"):
        Store(moto_uri)


def test_a_profile_that_does_not_exist_is_told(moto_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setattr(s3fs.S3FileSystem, "_cache", {})
    with pytest.raises(StoreError, match="AWS_PROFILE to a profile you have .*nobody"):
        Store(moto_uri)


def test_an_endpoint_that_is_down_is_told_within_seconds(use_endpoint: UseEndpoint) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    use_endpoint(f"http://127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(StoreError, match=rf"127.0.0.1:{port}.*check that the endpoint is up"):
        Store("s3://bucket/prefix")
    assert time.monotonic() - started < 10


def test_an_endpoint_that_never_answers_is_told(use_endpoint: UseEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "OPENING_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        use_endpoint(f"http://127.0.0.1:{mute.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(StoreError, match="the endpoint gave no answer within 1.0 s; check that"):
            Store("s3://bucket/prefix")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "no space is left; free some"),
        (errno.EDQUOT, "no space is left; free some"),
        (errno.EACCES, "check the path, free space and permissions"),
        (errno.EROFS, "check the path, free space and permissions"),
    ],
)
def test_a_failing_disk_is_told(number: int, told: str) -> None:
    with pytest.raises(StoreError, match=f"cannot write the store '/data': .*{told}"), explained("write", "/data"):
        raise OSError(number, "the reason")


def test_what_is_absent_stays_absent_on_reading() -> None:
    with pytest.raises(FileNotFoundError), explained("read", "/data"):
        raise FileNotFoundError("none")


def test_a_defect_is_no_failure_of_the_store() -> None:
    with pytest.raises(ZeroDivisionError), explained("read", "/data"):
        raise ZeroDivisionError


def test_a_password_in_the_endpoint_is_not_told() -> None:
    with pytest.raises(StoreError) as caught, explained("read", "s3://bucket"):
        raise OSError("cannot connect to http://user:hunter2@host/bucket")
    assert "hunter2" not in str(caught.value) and "http://***@host/bucket" in str(caught.value)


@pytest.fixture
def server_that_checks(moto_server: str) -> Iterator[None]:
    def allow(unchecked: str) -> None:
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{moto_server}/moto-api/reset-auth", unchecked.encode(), headers)
        urllib.request.urlopen(request).close()

    allow("0")
    yield
    allow("inf")


def test_a_secret_is_in_no_error(moto_uri: str, server_that_checks: None) -> None:
    with pytest.raises(StoreError) as caught:
        Store(moto_uri)
    assert SECRET not in str(caught.value) and SECRET not in str(caught.value.__cause__)


def test_a_secret_is_in_no_file_of_the_store(rclone_uri: str) -> None:
    store = use_everything(rclone_uri)
    with store.lease(store.ref("balance", "f00d")):
        contents = {key: store.backend.read(key) for key in store.backend.files("")}
    assert not [key for key, content in contents.items() if SECRET.encode() in content]


def test_a_secret_is_in_no_log_record(rclone_uri: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    use_everything(rclone_uri)
    assert "PutObject" in caplog.text and SECRET not in caplog.text


def use_everything(uri: str) -> Store:
    """Leave one of everything a store may hold."""
    store = Store(uri)
    made = Identity("balance", "f00d", {}, {}, {})
    ref = store.ref("balance", "f00d")
    for _ in range(2):
        with store.lease(ref), store.build(made, replace=True) as folder:
            (folder / "rows").write_text("rows")
        store.checkpoint(ref).write(b"state")
        store.backend.write("objects/balance/f00d/rows", b"bad")
        assert not store.has(ref)
    store.write_text("runs/a.json", "{}")
    return store
