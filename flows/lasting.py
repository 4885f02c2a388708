"""Where a run that a worker started may write: its process starts in a folder that is deleted afterwards."""

from pathlib import Path

from prefect.runtime import deployment

from dr_irl.artifacts import Store
from dr_irl.artifacts.address import parse_address, parse_path
from dr_irl.errors import StoreError, UserError
from flows.surroundings import can_be_written
from tasks.orchestration.opening import open_store


def open_lasting(store: str, output: str | None = None) -> Store:
    """Open the store of a run; see `require_lasting`."""
    require_lasting(store, output)
    return open_store(store)


def require_lasting(store: str, output: str | None = None) -> None:
    """Look at the places that a run is to write to, before anything is built.

    Args:
        store: a folder or `s3://bucket/prefix`.
        output: the folder of this machine that receives the result, if any; looked at before anything is built.

    Raises:
        UserError: what was to be kept would lie in a folder that is deleted when the run ends, or cannot be written.
    """
    places = {"store": (store, parse_address(store, "store", StoreError))}
    if output is not None:
        places["output"] = (output, parse_path(output, "output"))
    for what, (text, place) in places.items():
        if deployment.id and isinstance(place, Path) and not place.is_absolute():
            raise UserError(
                f"{what} {text!r} is seen from the folder that this run of a deployment starts in, which is deleted "
                "when it ends; give the whole path, or s3://bucket/prefix where it is the store"
            )
    if isinstance(folder := places.get("output", ("", None))[1], Path) and not can_be_written(folder):
        raise UserError(f"output {output!r} cannot be written; name another folder")
