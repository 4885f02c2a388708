"""`dr-irl`: run the DAG, look at runs, talk to the result.

dr-irl run --profile smoke
dr-irl run --profile demo --set grpo.steps=20 --store s3://bucket/prefix --output out
dr-irl run --profile paper --dry-run
dr-irl chat --run latest "How do I pick up a dropped stitch?"
dr-irl runs
"""

import errno
import logging
import os
import sys
from typing import Annotated

import typer

from dr_irl.errors import DrIrlError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=(__doc__ or "").split("\n")[0]
)

Store = Annotated[
    str, typer.Option("--store", envvar="DR_IRL_STORE", help="Folder or s3://bucket/prefix for artifacts.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and Prefect's log.")]


@app.callback()
def configure(context: typer.Context) -> None:
    """Inverse reinforcement learning with dynamic reward scaling for LLM alignment."""
    del context


@app.command()
def run(
    profile: Annotated[
        str, typer.Option(help="smoke (seconds), demo (minutes), paper (GPU), or a YAML file.")
    ] = "demo",
    assignments: Annotated[
        list[str] | None, typer.Option("--set", help="SECTION.NAME=VALUE, any setting; may be repeated.")
    ] = None,
    store: Store = "store",
    output: Annotated[str | None, typer.Option(help="Folder for the adapter, the report and the record.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the settings, print the plan, run nothing.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Align a model: run the whole DAG, from the sources to the report."""
    from dr_irl.profile import load_settings, parse_overrides

    overrides = parse_overrides(assignments or [])
    settings = load_settings(profile, overrides)
    from flows.plan import plan

    typer.echo(plan(settings, store), err=not dry_run)  # at once: the imports below take seconds
    if dry_run:
        return
    _quieten(debug)
    from dr_irl.progress import ConsoleProgress
    from flows.pipeline import dr_irl_pipeline
    from flows.terminal import print_result
    from tasks.caching import open_store
    from tasks.reporting import report_to

    opened = open_store(store)
    with ConsoleProgress() as progress:
        report_to(progress)
        record = dr_irl_pipeline(profile=profile, overrides=overrides, store=opened.uri, output=output)
    print_result(opened, record, output)


@app.command()
def runs(store: Store = "store") -> None:
    """List the finished runs of a store, newest first."""
    from dr_irl.artifacts import Store as ArtifactStore

    for key in reversed(ArtifactStore(store).list_keys("runs")):
        typer.echo(key.removeprefix("runs/").removesuffix(".json"))


@app.command()
def chat(
    prompt: Annotated[str | None, typer.Argument(help="The prompt; without one, each line of standard input.")] = None,
    run_id: Annotated[str, typer.Option("--run", help="Run to talk to; `latest` for the newest.")] = "latest",
    store: Store = "store",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length limit of an answer.")] = 64,
    debug: Debug = False,
) -> None:
    """Ask the unaligned and the aligned model the same thing."""
    _quieten(debug)
    from flows.terminal import chat_with

    prompts = [prompt] if prompt is not None else (line.strip() for line in sys.stdin)
    chat_with(store, run_id, (text for text in prompts if text), max_new_tokens=max_new_tokens)


@app.command()
def prepare() -> None:
    """Prepare the bundled models once, so that no run has to."""
    _quieten(debug=False)
    from dr_irl.language.load import BUNDLED, resolve_model

    for name in BUNDLED:
        typer.echo(f"{name}: {resolve_model(name)}")


def main() -> None:
    """Run the command; errors of the user's end with status 2, others of ours with 1, neither with a traceback."""
    debug = "--debug" in sys.argv
    try:
        app(standalone_mode=True)
    except DrIrlError as error:
        if debug:
            raise
        typer.echo(f"dr-irl: {error}", err=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        typer.echo(
            "dr-irl: interrupted; finished stages are in the store, the same command goes on from there", err=True
        )
        sys.exit(130)
    except OSError as error:
        if debug or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        typer.echo(f"dr-irl: the disk is full ({error}); free space and run the same command again", err=True)
        sys.exit(2)


def _quieten(debug: bool) -> None:
    """Leave the terminal to progress and results; must run before Prefect and transformers are imported."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # A busy machine needs longer than the default 20 s for the temporary server; a slow start is no failure.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not debug:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("dr_irl").setLevel(logging.INFO)
    import warnings

    warnings.filterwarnings("ignore", category=FutureWarning)


if __name__ == "__main__":
    main()
