"""`dr-irl report`: brings the report of a run here and opens it."""

import shutil
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from dr_irl.artifacts.address import parse_path
from dr_irl.errors import UserError
from flows.commands.options import StoreOption

app = typer.Typer()


@app.command()
def report(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run; `latest` for the newest.")] = "latest",
    store: StoreOption = "store",
    output: Annotated[str | None, typer.Option(help="File to copy the report to.")] = None,
    opened: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open it in a browser; by default only at a terminal.")
    ] = None,
) -> None:
    """Fetch the report of a run, local or from s3://, print where it lies here, and open it."""
    from flows.commands.scoring import fetch
    from flows.record import load_run
    from tasks.contents import REPORT
    from tasks.orchestration.opening import look_into

    looked_into = look_into(store)
    path = fetch(looked_into, load_run(looked_into, run_id), "report") / REPORT
    if output is not None:
        path = _copied(path, parse_path(output, "--output"))
    typer.echo(path.absolute())
    wanted = sys.stdout.isatty() if opened is None else opened
    if wanted and not webbrowser.open(path.absolute().as_uri()) and opened:
        raise UserError("no browser can be started here; open the file that is named above")


def _copied(source: Path, target: Path) -> Path:
    if target.is_dir():
        raise UserError(f"--output {str(target)!r} is a folder; name a file in it, for example {target / source.name}")
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise UserError(f"--output {str(target)!r} cannot be written: {error.strerror}; name another file") from error
    return target
