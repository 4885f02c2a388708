"""What `dr-irl doctor` looks at on the Prefect server: whether a run that is started there begins, and ends well."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from importlib.metadata import version
from urllib.parse import urlsplit

import httpx
import prefect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import Worker, WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from dr_irl.artifacts.address import is_loopback
from dr_irl.errors import without_secrets
from flows.doctor.machine import Check
from flows.doctor.schedule import check_late_runs, check_schedule
from flows.pools import is_gone

DEPLOYMENTS = ("train/train", "retrain/retrain", "evaluate/evaluate", "ablate/ablate")
AUTOMATIONS = ("dr-irl-silent-run", "dr-irl-lost-run")
GRPO_LIMIT = "dr-irl-grpo"
BOOTSTRAP = "run deployments/bootstrap.sh"
CLOSE = (
    "start it with PREFECT_SERVER_API_AUTH_STRING=user:password, and set PREFECT_API_AUTH_STRING to the same for "
    "workers, CI and yourself"
)
_SECONDS = 10
_SKEW_SECONDS = 30
"""Above this, schedules and heartbeats of two machines begin to disagree."""
_HEARTBEATS = 2
"""So many may be late before a worker counts as gone; the server itself waits for three and a quarter of a minute."""


def examine_server(pool: str) -> Iterator[Check]:
    """Look at the server that is configured and at what bootstrap made there, one after the other."""
    address = get_current_settings().api.url
    if not address:
        remedy = "start one with `prefect server start`, and set PREFECT_API_URL to its address"
        yield Check("server", "unknown", "PREFECT_API_URL is not set: no server, no deployments", remedy)
        return
    with get_client(sync_client=True) as client:
        try:
            told = client.request("GET", "/admin/version")
            yield check_server_version(address, told.json())
            yield check_door(address)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            seen = f"{without_secrets(address)} does not answer as a Prefect server: {_reason(error)}"
            yield Check("server", "failed", seen, "see that it runs, and that PREFECT_API_URL is its address and /api")
            return
        date = told.headers.get("date", "")
        yield check_clock(date, time.time())
        now = parsedate_to_datetime(date) if date else datetime.now(UTC)
        for name, look in _looks(client, pool, now).items():
            try:
                yield look()
            except httpx.HTTPError as error:
                yield Check(name, "unknown", _reason(error), "see the server's log")


def _looks(client: SyncPrefectClient, pool: str, now: datetime) -> dict[str, Callable[[], Check]]:
    return {
        "work pool": partial(check_pool, client, pool),
        "worker": partial(check_worker, client, pool, now),
        "concurrency limit": partial(check_limit, client),
        **{f"deployment {name}": partial(check_deployment, client, name) for name in DEPLOYMENTS},
        "schedule": partial(check_schedule, client),
        "late runs": partial(check_late_runs, client, now),
        **{f"automation {name}": partial(check_automation, client, name) for name in AUTOMATIONS},
    }


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def check_server_version(address: str, found: str) -> Check:
    """Compare the server's Prefect with ours."""
    here = "" if found == prefect.__version__ else f", and here {prefect.__version__}"
    seen = f"{without_secrets(address)}, Prefect {found}{here}"
    remedy = f"install the same on both sides: pip install prefect=={prefect.__version__} where the server runs"
    return Check.that("server", found == prefect.__version__, seen, remedy)


def check_door(address: str) -> Check:
    """See whether the server answers somebody who shows no password; an administrator's question tells."""
    if (urlsplit(address).hostname or "").endswith(".prefect.cloud"):
        return Check("door", "passed", "Prefect Cloud asks everyone for a key")
    local = is_loopback(urlsplit(address).hostname)
    try:
        answer = httpx.get(f"{address.rstrip('/')}/admin/version", timeout=_SECONDS, trust_env=not local)
    except httpx.HTTPError as error:
        return Check("door", "unknown", _reason(error), "see the server's log")
    closed = answer.status_code in (401, 403)
    whom = "every user of this machine and every page in its browsers" if local else "everyone who reaches it"
    seen = (
        "the server asks for a password" if closed else f"the server lets in {whom}, and they may run code in workers"
    )
    return Check.that("door", closed, seen, CLOSE)


def check_clock(date: str, now: float) -> Check:
    """Compare this machine's clock with the server's, from the date of its answer."""
    if not date:
        return Check("clock", "unknown", "the server does not say what time it is", "compare `date` on both machines")
    skew = abs(now - parsedate_to_datetime(date).timestamp())
    remedy = "set both clocks from the network: timedatectl set-ntp true"
    return Check.that("clock", skew <= _SKEW_SECONDS, f"{skew:.0f} s from the server's", remedy)


def check_pool(client: SyncPrefectClient, name: str) -> Check:
    """Look for the work pool, and whether it hands out runs."""
    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        return Check("work pool", "failed", f"there is no {name}", BOOTSTRAP)
    if pool.is_paused:
        return Check("work pool", "failed", f"{name} is paused", f"prefect work-pool resume {name}")
    return Check("work pool", "passed", f"{name}, type {pool.type}")


def check_worker(client: SyncPrefectClient, pool: str, now: datetime) -> Check:
    """Look for a worker of the pool that the server heard of just now; `now` is the server's time."""
    try:
        client.read_work_pool(pool)
    except ObjectNotFound:
        return Check("worker", "unknown", "its work pool is absent", BOOTSTRAP)
    workers = client.read_workers_for_work_pool(pool)
    alive = [worker for worker in workers if _is_alive(worker, now)]
    heard = ", ".join(sorted(f"{worker.name} (heard of {_age(worker, now)} ago)" for worker in alive or workers))
    seen = f"online: {heard}" if alive else f"none online, so no run would begin; known: {heard or 'none'}"
    return Check.that("worker", bool(alive), seen, f"dr-irl worker --pool {pool}")


def _is_alive(worker: Worker, now: datetime) -> bool:
    if worker.status != WorkerStatus.ONLINE or worker.last_heartbeat_time is None or is_gone(worker):
        return False
    patience = timedelta(seconds=_HEARTBEATS * (worker.heartbeat_interval_seconds or 30))
    return now - worker.last_heartbeat_time <= patience


def _age(worker: Worker, now: datetime) -> str:
    if worker.last_heartbeat_time is None:
        return "an unknown time"
    return f"{max(0.0, (now - worker.last_heartbeat_time).total_seconds()):.0f} s"


def check_limit(client: SyncPrefectClient) -> Check:
    """Look for the limit that keeps two GRPO loops off one device."""
    try:
        limit = client.read_global_concurrency_limit_by_name(GRPO_LIMIT)
    except ObjectNotFound:
        return Check("concurrency limit", "failed", f"there is no {GRPO_LIMIT}", BOOTSTRAP)
    seen = f"{GRPO_LIMIT}, {limit.active_slots} of {limit.limit} taken" + ("" if limit.active else ", disabled")
    remedy = f"prefect global-concurrency-limit enable {GRPO_LIMIT}"
    return Check.that("concurrency limit", limit.active, seen, remedy)


def check_deployment(client: SyncPrefectClient, name: str) -> Check:
    """Look for a deployment of the version that is installed here."""
    label = f"deployment {name}"
    try:
        found = client.read_deployment_by_name(name)
    except ObjectNotFound:
        return Check(label, "failed", "there is none", BOOTSTRAP)
    if found.paused or (found.schedules and not any(schedule.active for schedule in found.schedules)):
        return Check(
            label, "failed", "its schedule is paused", f"prefect deployment schedule resume {name} ID, or in the UI"
        )
    installed = version("dr-irl")
    seen = f"version {found.version}" + ("" if found.version == installed else f", and here {installed}")
    return Check.that(label, found.version == installed, seen, f"{BOOTSTRAP} with the version that the workers have")


def check_automation(client: SyncPrefectClient, name: str) -> Check:
    """Look for an automation that ends runs whose worker is gone."""
    label = f"automation {name}"
    found = client.read_automations_by_name(name)
    if not found:
        return Check(label, "failed", "there is none: a run whose worker is lost would stay Running", BOOTSTRAP)
    return Check.that(
        label, found[0].enabled, "enabled" if found[0].enabled else "paused", f"prefect automation resume {name}"
    )
