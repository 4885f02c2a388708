"""Work pools of the Prefect server that is configured, and their workers by name."""

import os
import re
import socket
import time

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import Worker
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from dr_irl.errors import UserError

_SECONDS_TO_START = 60.0


def pool_type(name: str) -> str:
    """Return what kind of runs a work pool starts: `process`, `docker`, `kubernetes`.

    Raises:
        UserError: no server is configured or answers, or it has no such pool: a worker would make one in silence.
    """
    if not (address := get_current_settings().api.url):
        raise UserError(
            "PREFECT_API_URL is not set, so there is no server whose runs a worker could start; set it to the address "
            "of yours, for example http://127.0.0.1:4200/api"
        )
    with get_client(sync_client=True) as client:
        _wait_for_server(client, address)
        try:
            return client.read_work_pool(name).type
        except ObjectNotFound:
            known = ", ".join(sorted(pool.name for pool in client.read_work_pools())) or "none yet"
            raise UserError(
                f"the server at {address} has no work pool {name!r}; it has: {known}; deployments/bootstrap.sh makes "
                "dr-irl"
            ) from None


def _wait_for_server(client: SyncPrefectClient, address: str) -> None:
    """Wait for a server that is just being started."""
    deadline = time.monotonic() + _SECONDS_TO_START
    while (error := client.api_healthcheck()) is not None:
        if time.monotonic() > deadline:
            raise UserError(
                f"no Prefect server answers at {address} ({error}); start one with: prefect server start, or set "
                "PREFECT_API_URL to the address of yours"
            )
        time.sleep(1)


def worker_name() -> str:
    """Name a worker for its host and process, so that another look at this host can tell whether it is there."""
    return f"{socket.gethostname()}-{os.getpid()}"


def is_gone(worker: Worker) -> bool:
    """Tell whether a worker was started on this host, by a process that is no more."""
    named = re.fullmatch(re.escape(socket.gethostname()) + r"-(\d+)", worker.name)
    return named is not None and not psutil.pid_exists(int(named[1]))


def forget_worker(pool: str, name: str) -> None:
    """Take a worker that has ended off the server's list; one that cannot be reached finds out by itself."""
    with get_client(sync_client=True, httpx_settings={"timeout": 5}) as client:
        try:
            client.request(
                "DELETE",
                "/work_pools/{work_pool_name}/workers/{name}",
                path_params={"work_pool_name": pool, "name": name},
            )
        except (httpx.HTTPError, ObjectNotFound):
            return
