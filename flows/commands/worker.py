"""`dr-irl worker`: starts the runs of a work pool on this machine."""

import os
import sys
from typing import Annotated

import typer

app = typer.Typer()
_HEARTBEAT_SECONDS = "10"
"""A third of Prefect's: after three that are missing the server calls a worker offline."""


@app.command()
def worker(
    pool: Annotated[str, typer.Option(help="The work pool whose runs it starts.")] = "dr-irl",
    name: Annotated[
        str | None, typer.Option(help="Its name on the server; host and process number by default.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Runs at once; no limit by default.")] = None,
    with_healthcheck: Annotated[
        bool, typer.Option("--with-healthcheck", help="Answer on PREFECT_WORKER_WEBSERVER_PORT, 8080, at /health.")
    ] = False,
) -> None:
    """Start the runs of a work pool; asked to end, by SIGTERM or Ctrl-C, it lets them keep a checkpoint first."""
    from flows.pools import forget_worker, pool_type, worker_name
    from flows.worker import run_worker

    kind, called = pool_type(pool), name or worker_name()
    arguments = ["--pool", pool, "--type", kind, "--name", called, "--no-create-pool-if-not-found"]
    arguments += ["--install-policy", "never"]
    arguments += ["--limit", str(limit)] if limit else []
    arguments += ["--with-healthcheck"] if with_healthcheck else []
    typer.echo(f"worker {called} of pool {pool}, type {kind}; end it with Ctrl-C or SIGTERM", err=True)
    status = run_worker(arguments, {"PREFECT_WORKER_HEARTBEAT_SECONDS": _HEARTBEAT_SECONDS, **os.environ})
    forget_worker(pool, called)
    sys.exit(status)
