"""`dr-irl evaluate`, `compare`: a model that is there already, and two runs side by side."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from flows.commands.options import Assignments, Debug, Profile, StoreOption
from flows.commands.quiet import quieten

app = typer.Typer(help="Measure models.")


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(help="NAME or NAME/VERSION of the registry, or an adapter: folder, s3://, hub.")
    ],
    profile: Profile = "demo",
    assignments: Assignments = None,
    store: StoreOption = "store",
    debug: Debug = False,
) -> None:
    """Let a model answer the held-out prompts, beside the unaligned one."""
    from dr_irl.profile import load_settings, parse_overrides
    from flows.adapters import find_adapter
    from flows.prefect_server import require_server

    overrides = parse_overrides(assignments or [])
    load_settings(profile, overrides)  # a wrong setting or name is told at once: the imports below take seconds
    find_adapter(model, store)
    quieten(debug)
    require_server()
    from flows.commands.launch import run_flow
    from flows.commands.terminal import print_evaluations
    from tasks.orchestration.opening import open_store

    opened = open_store(store)
    entry = "flows.evaluation:evaluate_model"
    print_evaluations(opened, run_flow(entry, model=model, profile=profile, overrides=overrides, store=opened.uri))


@app.command()
def compare(
    before: Annotated[str, typer.Argument(help="A run; `dr-irl runs` lists them.")],
    after: Annotated[str, typer.Argument(help="Another; `latest` for the newest.")] = "latest",
    store: StoreOption = "store",
) -> None:
    """Compare the results of two runs prompt by prompt: what is refused now and was not, and the reverse."""
    from dr_irl.errors import UserError
    from dr_irl.evaluation.suites import SUITES
    from dr_irl.records import Answer
    from dr_irl.results.comparison import compare_refusals
    from dr_irl.results.statistics import rate
    from flows.commands.scoring import fetch
    from flows.record import load_run, run_ids
    from tasks.contents import ALIGNED, ANSWERS
    from tasks.orchestration.opening import look_into
    from tasks.stages import EVALUATION

    opened = look_into(store)
    records = [load_run(opened, run_id) for run_id in (before, after)]
    if records[0].run_id == records[1].run_id:
        others = [run_id for run_id in run_ids(opened) if run_id != records[0].run_id]
        listed = f"name another: {', '.join(others[-5:])}" if others else "the store has no other run yet"
        raise UserError(f"run {records[0].run_id!r} would be compared with itself; {listed}")
    old, new = (Answer.read(fetch(opened, record, EVALUATION.path(ALIGNED)) / ANSWERS) for record in records)
    table = Table("prompts", "refused before", "refused after", "became refused", "became answered", "p (McNemar)")
    for suite in SUITES:
        sides = [[answer for answer in answers if answer.suite == suite] for answers in (old, new)]
        try:
            found = compare_refusals(suite, records[0].run_id, records[1].run_id, *sides)
        except ValueError as error:
            raise UserError(f"{suite} prompts of {records[0].run_id} and {records[1].run_id}: {error}") from None
        counts = [f"{r.hits} of {r.count}" for r in (rate([answer.refused for answer in side]) for side in sides)]
        table.add_row(suite, *counts, str(found.gained), str(found.lost), f"{found.p_value:.3f}")
    Console(highlight=False).print(table)
