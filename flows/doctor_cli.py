"""`dr-irl doctor`: is everything there that a run needs, and what to do about what is not."""

import itertools
import json
import logging
import os
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from flows.options import Profile, StoreOption

app = typer.Typer()
_MARKS = {"passed": "ok", "failed": "FAILED", "unknown": "?"}


@app.command()
def doctor(
    profile: Profile = "demo",
    store: StoreOption = "store",
    pool: Annotated[str, typer.Option(help="The work pool whose workers do the runs.")] = "dr-irl",
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check server, pool, worker, store, credentials, models, disk and versions; exit status 2 unless all is well."""
    # The checks say what is wrong; what libraries log beside them would only repeat it.
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    logging.disable(logging.CRITICAL)
    from dr_irl.profile import load_settings
    from flows.doctor import examine_machine
    from flows.doctor_server import examine_server

    well, checks = True, []
    for check in itertools.chain(examine_machine(load_settings(profile, {}), store), examine_server(pool)):
        well &= check.state == "passed"
        checks.append(asdict(check))
        if not as_json:
            remedy = f"; to do: {check.remedy}" if check.remedy else ""
            typer.echo(f"{_MARKS[check.state]:<7} {check.name}: {check.seen}{remedy}")
    if as_json:
        typer.echo(json.dumps(checks, indent=2))
    if not well:
        sys.exit(2)
