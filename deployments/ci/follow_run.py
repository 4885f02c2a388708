"""Follows a flow run and says how it ended, and where its page and its report are: `python follow_run.py ID`.

Without an ID it only sees whether the Prefect server answers. It needs nothing but Prefect.
"""

import itertools
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
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
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_FOR_THE_LAST_LINES = 4.0
"""Logs are sent in batches: the last one comes after the state."""
_MOST_SECONDS_AWAY = 1800.0
_OVERLAP = timedelta(seconds=10)
"""Lines may reach the server out of order."""
_LINES_AT_ONCE = 200
_PROGRESS, _BETWEEN_PROGRESS = "dr_irl.progress", timedelta(minutes=1)
_LEVELS = {logging.WARNING: "WARNING ", logging.ERROR: "ERROR ", logging.CRITICAL: "CRITICAL "}
_FAILED, _NO_SERVER, _GATE_FAILED = 1, 2, 3
_INTERRUPTED = 130


def main() -> int:
    """Look for the server or follow a run; returns the exit status that train-and-wait.sh describes."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with get_client(sync_client=True) as client:
        if len(sys.argv) < 2:
            return look_for_server(client)
        run_id = UUID(sys.argv[1])
        try:
            run = follow(client, run_id)
            lines = outcome(client, run)
        except KeyboardInterrupt:
            _complain(f"no longer watched; run {run_id} goes on, and is ended by: prefect flow-run cancel {run_id}")
            return _INTERRUPTED
        except (httpx.HTTPError, ObjectNotFound) as error:
            _complain(f"run {run_id} can be followed no longer, and may go on: {_reason(error)}")
            return _FAILED
    print("\n".join(lines))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a") as file:
            file.writelines(f"- {line}\n" for line in lines)
    state = run.state
    if state is not None and state.is_completed():
        return 0
    return _GATE_FAILED if state is not None and state.name == "GateFailed" else _FAILED


def look_for_server(client: SyncPrefectClient) -> int:
    """Say in a sentence if no Prefect server answers where one should."""
    try:
        client.request("GET", "/admin/version").json()
    except (httpx.HTTPError, ObjectNotFound, ValueError) as error:
        _complain(
            f"no Prefect server answers at {client.api_url} ({_reason(error)}); see that it runs and can be reached "
            "from here, and that PREFECT_API_URL is its address with /api at the end"
        )
        return _NO_SERVER
    return 0


def follow(client: SyncPrefectClient, run_id: UUID) -> FlowRun:
    """Print the states and the log of a run until it has ended; a server that is away is waited for.

    Raises:
        httpx.HTTPError: the server does not let us look, or was away for half an hour.
        ObjectNotFound: the run was deleted.
    """
    log, shown, away_since = RunLog(client, run_id), "", 0.0
    while True:
        try:
            run = client.read_flow_run(run_id)
            log.show_news()
        except httpx.HTTPError as error:
            away_since = _waited_for(error, away_since)
            continue
        away_since = 0.0
        assert run.state is not None
        if run.state.name != shown:
            shown = run.state.name or ""
            print(f"{run.state.timestamp:%H:%M:%S} {run.name}: {shown}", flush=True)
        if run.state.is_final():
            time.sleep(_SECONDS_FOR_THE_LAST_LINES)
            log.show_news()
            return run
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _waited_for(error: httpx.HTTPError, away_since: float) -> float:
    """Wait a little for a server that is away; returns since when it is."""
    refused = isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error
    if refused or (away_since and time.monotonic() - away_since > _MOST_SECONDS_AWAY):
        raise error
    if not away_since:
        _complain(f"the server does not answer, and is asked again: {_reason(error)}")
    time.sleep(_SECONDS_BETWEEN_LOOKS)
    return away_since or time.monotonic()


@dataclass
class RunLog:
    """The log of a run, as far as it was shown."""

    client: SyncPrefectClient
    run_id: UUID
    told: set[UUID] = field(default_factory=set)
    since: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(minutes=5))
    progress_shown: datetime = datetime.min.replace(tzinfo=UTC)

    def show_news(self) -> None:
        """Print what is new: every line but those of progress, of which one a minute."""
        newest = self.since + _OVERLAP
        for line in self._lines():
            newest = max(newest, line.timestamp)
            if line.id in self.told:
                continue
            self.told.add(line.id)
            if line.name == _PROGRESS:
                if line.timestamp - self.progress_shown < _BETWEEN_PROGRESS:
                    continue
                self.progress_shown = line.timestamp
            print(f"{line.timestamp:%H:%M:%S} {_LEVELS.get(line.level, '')}{line.message}", flush=True)
        self.since = newest - _OVERLAP

    def _lines(self) -> Iterator[Log]:
        """Read all lines since a little before the last one, page by page."""
        wanted = LogFilter(
            flow_run_id=LogFilterFlowRunId(any_=[self.run_id]), timestamp=LogFilterTimestamp(after_=self.since)
        )
        for page in itertools.count():
            lines = self.client.read_logs(
                log_filter=wanted, limit=_LINES_AT_ONCE, offset=page * _LINES_AT_ONCE, sort=LogSort.TIMESTAMP_ASC
            )
            yield from lines
            if len(lines) < _LINES_AT_ONCE:
                return


def outcome(client: SyncPrefectClient, run: FlowRun) -> list[str]:
    """Return a line each for state, page, report and the command that opens it."""
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=["report"])
        ),
        sort=ArtifactSort.UPDATED_DESC,
        limit=1,
    )
    page = str(found[0].data) if found else ""
    state = ": ".join(part for part in (run.state.name, run.state.message) if part) if run.state else "unknown"
    # `ADDRESS` and, of a folder, ` on HOST`; then the command, once the run is recorded.
    place = re.match(r"`([^`]+)`( on \S+)?", page)
    command = re.search(r"`(dr-irl report [^`]+)`", page)
    return [
        f"state:  {state}",
        f"run:    {url_for(run)}",
        f"report: {''.join(filter(None, place.groups())) if place else 'none; the run ended before it was written'}",
        f"open:   {command[1] if command else 'nothing; the run was not recorded'}",
    ]


def _complain(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
