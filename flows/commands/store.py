"""`dr-irl store`: look at a store, check it, clear it up."""

import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.artifacts.in_use import in_use
from dr_irl.artifacts.manifest import Manifest
from dr_irl.artifacts.upkeep import Lineage, collect, garbage, lineage, verify
from dr_irl.errors import CorruptArtifactError, UserError
from flows.commands.options import StoreOption
from flows.commands.terminal import print_aside
from flows.record import forget_run, made_by, run_ids
from tasks.orchestration.opening import look_into, open_store

app = typer.Typer(no_args_is_help=True, help="Look at a store, check it, clear it up.")

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SHORTEST_NAME = 4


@app.command("ls")
def list_artifacts(
    stage: Annotated[str, typer.Argument(help="Only this stage, for example reward or reward/insult.")] = "",
    store: StoreOption = "store",
) -> None:
    """List the artifacts: stage, fingerprint, when built, seconds, bytes, rows."""
    opened = look_into(store)
    for ref, manifest in opened.manifests(opened.refs(stage)).items():
        if isinstance(manifest, CorruptArtifactError):
            typer.echo(f"{ref.stage:<34} {ref.fingerprint[:8]}  damaged: {manifest}")
            continue
        rows = sum(entry.rows or 0 for entry in manifest.files.values())
        typer.echo(
            f"{ref.stage:<34} {ref.fingerprint[:8]}  {manifest.created:%Y-%m-%d %H:%M}  "
            f"{manifest.wall_seconds:>8.1f} s  {_bytes(_size(manifest)):>9}" + (f"  {rows:>8} rows" if rows else "")
        )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A fingerprint, or the start of one.")], store: StoreOption = "store"
) -> None:
    """Show what an artifact is made of, and what it was made from."""
    opened = look_into(store)
    ref = _find(opened, name)
    typer.echo(opened.manifest(ref).model_dump_json(indent=2))
    made = lineage(opened, ref)
    typer.echo("\nmade from" if made.inputs else "\nmade from no other artifact")
    _print_inputs(made, depth=1)


@app.command("verify")
def verify_store(store: StoreOption = "store") -> None:
    """Check every hash of every artifact; exit status 1 if one is damaged."""
    opened = look_into(store)
    count = damaged = 0
    for ref, problem in verify(opened):
        count += 1
        if problem is not None:
            damaged += 1
            typer.echo(f"{ref.stage} {ref.fingerprint}: {problem}", err=True)
    typer.echo(f"{count} artifacts checked, {damaged} damaged" + ("; the next run rebuilds them" if damaged else ""))
    if damaged:
        sys.exit(1)


@app.command()
def gc(
    store: StoreOption = "store",
    keep: Annotated[int | None, typer.Option(min=0, help="Keep this many of the newest runs; all by default.")] = None,
    min_age: Annotated[str, typer.Option(help="Leave alone what is younger, as 30s, 20m, 12h or 7d.")] = "1d",
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it, only say what would be.")] = False,
) -> None:
    """Find what no kept run was made from and what ended runs left behind; what a run at work needs is kept."""
    seconds = _seconds(min_age)
    opened = open_store(store) if delete else look_into(store)
    with opened.clearing(print_aside) if delete else nullcontext():
        used = in_use(opened.backend)
        ids = run_ids(opened)
        made = {each: made_by(opened, each) for each in ids}
        old = ids[: max(0, len(ids) - keep)] if keep is not None else []
        dropped = [each for each in old if not used.fingerprints.issuperset(ref.fingerprint for ref in made[each])]
        roots = [ref for each in ids if each not in dropped for ref in made[each]]
        found = garbage(opened, roots, used, min_age_seconds=seconds)
        for run_id in dropped:
            typer.echo(f"run        {run_id}")
        for item in found.items:
            typer.echo(f"{item.kind:<10} {item.key}  {_bytes(item.bytes)}")
        if delete:
            for run_id in dropped:
                forget_run(opened, run_id)
            collect(opened, found)
    verb = "deleted" if delete else "would be deleted; add --delete to do so"
    typer.echo(f"{len(dropped)} runs and {len(found.items)} items, {_bytes(found.bytes)}, {verb}")


def _find(store: Store, name: str) -> ArtifactRef:
    found = [ref for ref in store.refs() if ref.fingerprint.startswith(name)]
    if len(name) < _SHORTEST_NAME or len(found) != 1:
        raise UserError(
            f"{name!r} names {len(found)} artifacts of store {store.uri!r}; give a fingerprint or at least "
            f"{_SHORTEST_NAME} of its first characters: dr-irl store ls lists them"
        )
    return found[0]


def _print_inputs(of: Lineage, depth: int) -> None:
    for role, made in of.inputs.items():
        where = f"{made.ref.stage} {made.fingerprint}" if made.ref else f"{made.fingerprint}, no longer in the store"
        typer.echo(f"{'  ' * depth}{role}: {where}")
        _print_inputs(made, depth + 1)


def _seconds(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if unit not in _SECONDS or not number.isdigit():
        raise UserError(f"--min-age {text!r}: write a whole number and s, m, h or d, for example 12h")
    return float(number) * _SECONDS[unit]


def _size(manifest: Manifest) -> int:
    return sum(entry.size for entry in manifest.files.values())


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
