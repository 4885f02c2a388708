"""`dr-irl promote`, `rollback`, `models`: what is published, and which version is the champion."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dr_irl.artifacts import Store
from dr_irl.promotion.registry import Registry
from flows.commands.options import StoreOption
from tasks.orchestration.opening import look_into, open_store

if TYPE_CHECKING:
    from dr_irl.promotion.gate import Check
    from dr_irl.promotion.published import Version

app = typer.Typer(no_args_is_help=True, help="Publish results, go back, list what is published.")

Name = Annotated[str, typer.Argument(help="The name of a model, for example safe-assistant.")]


@app.command()
def promote(
    name: Name,
    run_id: Annotated[str, typer.Option("--run", help="Run whose result it is; `latest` for the newest.")] = "latest",
    store: StoreOption = "store",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the checks, publish nothing.")] = False,
    hub: Annotated[
        str | None, typer.Option(help="OWNER/NAME of a hub repository that gets a copy; the token is HF_TOKEN.")
    ] = None,
) -> None:
    """Publish a run's result and make it the champion, if it passes the gate; exit status 3 if it does not."""
    from dr_irl.promotion.hub import require_uploadable
    from dr_irl.promotion.published import require_name
    from flows.commands.terminal import print_aside
    from flows.record import holding_run, load_run
    from tasks.promotion import Candidate, gate_run, publish_run, published_as_champion

    require_name(name)
    opened = look_into(store) if dry_run else open_store(store)
    with nullcontext(load_run(opened, run_id)) if dry_run else holding_run(opened, run_id, print_aside) as record:
        if hub:
            require_uploadable(hub, record.settings.models.policy, os.environ.get("HF_TOKEN"))
        candidate = Candidate(record.run_id, record.settings, record.artifacts)
        version = published_as_champion(opened, candidate, name)
        if version is None:
            verdict = gate_run(opened, candidate, name)
            _print_checks(verdict.checks)
            verdict.require_passed()
            if dry_run:
                typer.echo(f"run {record.run_id} may replace {verdict.compared_with}; nothing was published")
                return
            version = publish_run(opened, candidate, name, verdict)
    typer.echo(f"{name} {version.version} is the champion: {Registry(opened).uri(name, version.version)}")
    if hub and not dry_run:
        _upload(opened, version, hub)


@app.command()
def rollback(
    name: Name,
    to: Annotated[str | None, typer.Option(help="This version instead of the champion before the present one.")] = None,
    store: StoreOption = "store",
) -> None:
    """Make the champion before the present one the champion again, or any published version."""
    move = Registry(open_store(store)).rollback(name, to)
    typer.echo(f"{name} {move.version} is the champion, instead of {move.previous or 'none'}")


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="List the versions of this model; all models by default.")] = None,
    store: StoreOption = "store",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verify: Annotated[bool, typer.Option(help="Hash every file too; exit status 1 if a version is damaged.")] = False,
) -> None:
    """List published models and versions; the champion is marked."""
    opened = look_into(store)
    registry = Registry(opened)
    rows = [row for each in ([name] if name else registry.names()) for row in _rows(registry, each, verify)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif not rows:
        typer.echo(f"store {opened.uri} has no model {name or 'yet'}; dr-irl promote NAME publishes a run's result")
    else:
        for row in rows:
            mark = "champion" if row["champion"] else ""
            typer.echo(f"{row['name']:<24} {row['version']}  {mark:<8}  {row['problem'] or row['run_id']}")
    if any(row["problem"] for row in rows):
        sys.exit(1)


def _rows(registry: Registry, name: str, verify: bool) -> list[dict[str, Any]]:
    from dr_irl.errors import CorruptArtifactError

    champion = registry.champion(name)
    rows: list[dict[str, Any]] = []
    for version in registry.versions(name):
        problem = registry.verify(name, version) if verify else None
        try:
            about = registry.version(name, version).about
        except CorruptArtifactError as error:
            about, problem = {}, str(error)
        rows.append(
            {
                "name": name,
                "version": version,
                "champion": champion is not None and champion.version == version,
                "run_id": about.get("run_id"),
                "compared_with": about.get("compared_with"),
                "uri": registry.uri(name, version),
                "problem": problem,
            }
        )
    return rows


def _print_checks(checks: Sequence["Check"]) -> None:
    for check in checks:
        typer.echo(f"{'passed' if check.passed else 'FAILED'}  {check.name}: {check.sentence}")


def _upload(store: Store, version: "Version", repository: str) -> None:
    from dr_irl.promotion.hub import upload

    folder = Registry(store).fetch(version.name, version.version)
    typer.echo(f"uploaded: {upload(version, folder, repository, os.environ['HF_TOKEN'])}")
