"""`dr-irl`: run the DAG, look at runs, talk to the result, score answers.

dr-irl run --profile smoke
dr-irl run --profile demo --set grpo.steps=20 --store s3://bucket/prefix --output out
dr-irl run --profile paper --dry-run
dr-irl chat --run latest "How do I pick up a dropped stitch?"
dr-irl chat --best-of 8 "How do I pick up a dropped stitch?"
dr-irl score answers.parquet --output scored.parquet
dr-irl score --panel s3://bucket/prefix/objects/panel/FINGERPRINT < answers.jsonl
dr-irl report latest --output report.html
dr-irl run --from grpo
dr-irl plan --set grpo.steps=20
dr-irl runs
dr-irl store verify
dr-irl run --promote safe-assistant
dr-irl models safe-assistant
dr-irl rollback safe-assistant
dr-irl doctor
dr-irl worker
"""

import signal
import sys
import traceback
from importlib.metadata import version
from threading import Event
from types import FrameType, TracebackType
from typing import Annotated, Literal

import typer

from dr_irl.errors import DrIrlError, InterruptedRunError, StoreError, UserError, without_secrets
from flows.commands.doctor import app as doctor_app
from flows.commands.measuring import app as measuring_app
from flows.commands.options import Assignments, Debug, Profile, StoreOption
from flows.commands.quiet import quieten
from flows.commands.registry import app as registry_app
from flows.commands.report import app as report_app
from flows.commands.store import app as store_app
from flows.commands.worker import app as worker_app
from flows.prefect_server import require_server
from flows.surroundings import can_be_written, settle_surroundings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=(__doc__ or "").split("\n")[0]
)
app.add_typer(measuring_app)
app.add_typer(registry_app)
app.add_typer(doctor_app)
app.add_typer(worker_app)
app.add_typer(report_app)
app.add_typer(store_app, name="store")

_terminated = Event()

FromStage = Annotated[
    str | None, typer.Option("--from", help="Build this stage and all that depends on it anew, for example grpo.")
]
Refresh = Annotated[list[str] | None, typer.Option(help="Build this stage anew, and nothing else; may be repeated.")]
Only = Annotated[
    list[str] | None, typer.Option(help="Run this stage and what it needs, and stop there; may be repeated.")
]


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dr-irl {version('dr-irl')}")
        raise typer.Exit


@app.callback()
def configure(
    context: typer.Context,
    say_version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Inverse reinforcement learning with dynamic reward scaling for LLM alignment."""
    del context, say_version


@app.command()
def run(
    profile: Profile = "demo",
    assignments: Assignments = None,
    store: StoreOption = "store",
    output: Annotated[str | None, typer.Option(help="Folder for the adapter, the report and the record.")] = None,
    from_stage: FromStage = None,
    refresh: Refresh = None,
    only: Only = None,
    promote: Annotated[
        str | None, typer.Option(help="Publish the result under this name, if it beats the champion of that name.")
    ] = None,
    runner: Annotated[
        Literal["threads", "processes", "dask", "ray"], typer.Option(help="What builds the stages.")
    ] = "threads",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the settings, print what the run would do, run nothing.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Align a model: run the whole DAG, from the sources to the report, or a part of it."""
    from dr_irl.artifacts.address import parse_address, parse_path
    from dr_irl.profile import load_settings, parse_overrides
    from flows.commands.preview import preview

    overrides = parse_overrides(assignments or [])
    settings = load_settings(profile, overrides)
    parse_address(store, "store", StoreError)  # told at once, and before it is shown
    if output is not None and not can_be_written(parse_path(output, "--output")):
        raise UserError(f"--output {output!r} cannot be written; name another folder")
    typer.echo(preview(settings, store), err=not dry_run)  # at once: the imports below take seconds
    if dry_run:
        return
    quieten(debug)
    require_server()  # people look there for the run even if it finds everything
    from flows.commands.launch import launch

    part = {"from_stage": from_stage, "refresh": refresh, "only": only}
    options = {"promote": promote, "runner": runner}
    launch(profile, overrides, store=store, output=output, part=part, options=options)


@app.command()
def plan(
    profile: Profile = "demo",
    assignments: Assignments = None,
    store: StoreOption = "store",
    from_stage: FromStage = None,
    refresh: Refresh = None,
    only: Only = None,
    debug: Debug = False,
) -> None:
    """Say which stages the store has, which a run would build, and what changed."""
    from dr_irl.profile import load_settings, parse_overrides

    settings = load_settings(profile, parse_overrides(assignments or []))
    quieten(debug)
    from dr_irl.artifacts import Store as ArtifactStore
    from flows.commands.terminal import print_plan
    from flows.plan import plan_run
    from tasks.dag import build_dag, select
    from tasks.identify import identify

    dag = build_dag(settings)
    selection = select(dag, from_stage=from_stage, refresh=refresh or (), only=only or ())
    opened = ArtifactStore(store, read_only=True)
    print_plan(plan_run(identify(dag, settings, opened, selection.nodes), opened, selection.rebuild), opened)


@app.command()
def runs(store: StoreOption = "store") -> None:
    """List the finished runs of a store, newest first."""
    from flows.record import run_ids
    from tasks.orchestration.opening import look_into

    for run_id in reversed(run_ids(look_into(store))):
        typer.echo(run_id)


@app.command()
def chat(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; without one, each line of standard input.")] = None,
    run_id: Annotated[str, typer.Option("--run", help="Run to talk to; `latest` for the newest.")] = "latest",
    store: StoreOption = "store",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length limit of an answer.")] = 64,
    best_of: Annotated[
        int,
        typer.Option(min=1, help="Let the aligned model answer this often, and show what its reward model rates best."),
    ] = 1,
    temperature: Annotated[
        float | None, typer.Option(min=0.01, help="Of the answers that --best-of samples; 0.7 by default.")
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Reward model that --best-of asks; without it, each prompt is routed to one.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Ask the unaligned and the aligned model the same thing."""
    quieten(debug)
    from flows.commands.terminal import BestOf, chat_with

    best = BestOf.checked(best_of, temperature, category)
    prompts = [prompt] if prompt is not None else (line.strip() for line in sys.stdin)
    chat_with(store, run_id, (text for text in prompts if text), max_new_tokens=max_new_tokens, best=best)


@app.command()
def score(
    file: Annotated[
        str | None, typer.Argument(help="Parquet, JSONL or CSV, local or s3://; without one, JSONL on standard input.")
    ] = None,
    panel: Annotated[
        str | None, typer.Option(help="Folder or s3://bucket/prefix of a panel, instead of that of a run.")
    ] = None,
    run_id: Annotated[str | None, typer.Option("--run", help="Run whose panel it is; the newest by default.")] = None,
    store: StoreOption = "store",
    output: Annotated[
        str | None, typer.Option(help="Parquet, JSONL or CSV to write; without it, JSONL on standard output.")
    ] = None,
    category: Annotated[str | None, typer.Option(help="Of all rows, instead of the column `category`.")] = None,
    device: Annotated[str, typer.Option(help="Where the reward models run: cpu, cuda or cuda:N.")] = "cpu",
    debug: Debug = False,
) -> None:
    """Score answers (columns `prompt`, `response`, `category`): the same rows, with `reward` and `cut`."""
    quieten(debug)
    from flows.commands.scoring import PanelChoice, score_rows

    score_rows(file, output, PanelChoice(panel, run_id, store), category=category, device=device)


@app.command()
def prepare() -> None:
    """Prepare the bundled models once, so that no run has to."""
    quieten(debug=False)
    from dr_irl.language.resolve import BUNDLED, resolve_model

    for name in BUNDLED:
        typer.echo(f"{name}: {resolve_model(name)}")


def main() -> None:
    """Run the command; errors of the user's end with status 2, others of ours with 1, neither with a traceback."""
    debug = "--debug" in sys.argv
    signal.signal(signal.SIGTERM, _stop)
    if debug:
        sys.excepthook = _show_without_secrets
    try:
        for sentence in settle_surroundings():
            typer.echo(f"dr-irl: {sentence}", err=True)
        app(standalone_mode=True)
    except BaseException as error:
        status = _say_why(error, debug)
        if status is None:
            raise
        sys.exit(status)


def _say_why(error: BaseException, debug: bool) -> int | None:
    """Say in a sentence what ended the command; returns its exit status, or None where there is no such sentence."""
    if _terminated.is_set():  # whatever the handler's exception has become on its way
        error = InterruptedRunError.by_signal(signal.SIGTERM)
    if isinstance(error, SystemExit) and error.code == 128 + signal.SIGINT:  # so Typer answers Ctrl-C
        error = InterruptedRunError.by_signal(signal.SIGINT)
    if isinstance(error, DrIrlError) and (not debug or isinstance(error, InterruptedRunError)):
        typer.echo(f"dr-irl: {error}", err=True)
        return error.exit_status
    from dr_irl.artifacts.explain import is_full_disk  # a quarter of a second of imports

    if isinstance(error, OSError) and is_full_disk(error) and not debug:
        typer.echo(f"dr-irl: the disk is full ({error}); free space and run the same command again", err=True)
        return 2
    return None


def _show_without_secrets(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does; what libraries say in it may hold the password of an endpoint or a proxy."""
    typer.echo(without_secrets("".join(traceback.format_exception(kind, error, trace))), err=True, nl=False)


def _stop(number: int, frame: FrameType | None) -> None:
    """Answer SIGTERM: a run has stopped its stages by then. A second one ends the process."""
    del frame
    signal.signal(number, signal.SIG_DFL)
    _terminated.set()
    sys.exit(128 + number)  # no Exception: libraries that are being imported catch those and go on


if __name__ == "__main__":
    main()
