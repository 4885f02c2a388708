"""Names of runs that say what runs, and when it was to start: `train demo 2026-11-30 03:00 UTC`."""

from pathlib import Path

from prefect.runtime import flow_run


def run_name() -> str:
    """Name a run by its flow, its model and profile, and the time it was scheduled for."""
    given = flow_run.parameters
    about = [Path(given[name]).name for name in ("model", "profile") if given.get(name)]
    return " ".join([str(flow_run.flow_name), *about, f"{flow_run.scheduled_start_time:%Y-%m-%d %H:%M} UTC"])
