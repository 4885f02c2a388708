"""Follows a flow run and says how it ended, and where its page and its report are: `python follow_run.py ID`.

Without an ID it only sees whether the Prefect server answers. It needs nothing but Prefect.
"""

import logging
import os
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterTimestamp,
)
from prefect.client.schemas.objects import FlowRun, Log
from prefect.client.schemas.sorting import ArtifactSort, LogSort
from prefect.utilities.urls import url_for

_SECONDS_BETWEEN_LOOKS = 2.0
_OVERLAP = timedelta(seconds=10)
"""Lines may reach the server out of order."""
_PROGRESS = "dr_irl.progress"
_NO_SERVER, _GATE_FAILED = 2, 3


def main() -> int:
    """Look for the server or follow a run; returns the exit status that train-and-wait.sh describes."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with get_client(sync_client=True) as client:
        if len(sys.argv) < 2:
            return look_for_server(client)
        run = follow(client, UUID(sys.argv[1]))
        lines = outcome(client, run)
    print("\n".join(lines))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a") as file:
            file.writelines(f"- {line}\n" for line in lines)
    assert run.state is not None
    if run.state.is_completed():
        return 0
    return _GATE_FAILED if run.state.name == "GateFailed" else 1


def look_for_server(client: SyncPrefectClient) -> int:
    """Say in a sentence if no Prefect server answers where one should."""
    try:
        client.request("GET", "/admin/version").json()
    except (httpx.HTTPError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        print(
            f"no Prefect server answers at {client.api_url} ({reason}); see that it runs and can be reached from here, "
            "and that PREFECT_API_URL is its address with /api at the end",
            file=sys.stderr,
        )
        return _NO_SERVER
    return 0


def follow(client: SyncPrefectClient, run_id: UUID) -> FlowRun:
    """Print the states and the log of a run until it has ended; a server that is away for a while is waited for."""
    told: set[UUID] = set()
    shown, since, away = "", datetime.now(UTC) - timedelta(minutes=5), False
    while True:
        try:
            run = client.read_flow_run(run_id)
            lines = [line for line in _read_log(client, run_id, since) if line.id not in told]
        except httpx.HTTPError as error:
            if not away:
                print(f"the server does not answer, and is asked again: {error}", file=sys.stderr, flush=True)
            away = True
        else:
            away = False
            assert run.state is not None
            for line in lines:
                told.add(line.id)
                since = max(since, line.timestamp - _OVERLAP)
                if line.name != _PROGRESS or line.level >= logging.WARNING:
                    print(f"{line.timestamp:%H:%M:%S} {line.message}", flush=True)
            if run.state.name != shown:
                shown = run.state.name or ""
                print(f"{run.state.timestamp:%H:%M:%S} {run.name}: {shown}", flush=True)
            if run.state.is_final():
                return run
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _read_log(client: SyncPrefectClient, run_id: UUID, since: datetime) -> list[Log]:
    return client.read_logs(
        log_filter=LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]), timestamp=LogFilterTimestamp(after_=since)),
        sort=LogSort.TIMESTAMP_ASC,
    )


def outcome(client: SyncPrefectClient, run: FlowRun) -> list[str]:
    """Return a line each for state, page and report."""
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=["report"])
        ),
        sort=ArtifactSort.UPDATED_DESC,
        limit=1,
    )
    state = ": ".join(part for part in (run.state.name, run.state.message) if part) if run.state else "unknown"
    # The page begins with the address in the store, as the text of a link or, where a browser cannot open it, as code.
    address = re.match(r"\[(.+)\]\(|`(.+)`", str(found[0].data)) if found else None
    report = address[1] or address[2] if address else "none; the run ended before it was written"
    return [f"state:  {state}", f"run:    {url_for(run)}", f"report: {report}"]


if __name__ == "__main__":
    sys.exit(main())
