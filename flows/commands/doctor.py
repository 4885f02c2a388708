"""`dr-irl doctor`: is everything there that a run needs, and what to do about what is not."""

import itertools
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.options import Profile, StoreOption
from flows.commands.quiet import silenced

if TYPE_CHECKING:
    from flows.doctor.machine import Check

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
    with silenced():  # the checks say what is wrong; what libraries log beside them would only repeat it
        from dr_irl.profile import load_settings
        from flows.doctor.machine import examine_machine
        from flows.doctor.server import examine_server

        checks = itertools.chain(examine_machine(load_settings(profile, {}), store), examine_server(pool))
        well = _print_json(checks) if as_json else _print_lines(checks)
    if not well:
        sys.exit(2)


def _print_lines(checks: "Iterable[Check]") -> bool:
    """Print each check as soon as it is done; tells whether all is well."""
    well = True
    for check in checks:
        well &= check.state == "passed"
        remedy = f"; to do: {check.remedy}" if check.remedy else ""
        typer.echo(f"{_MARKS[check.state]:<7} {check.name}: {check.seen}{remedy}")
    return well


def _print_json(checks: "Iterable[Check]") -> bool:
    done = list(checks)
    typer.echo(json.dumps([asdict(check) for check in done], indent=2))
    return all(check.state == "passed" for check in done)
