"""Copies what a run is for out of the store."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from dr_irl.artifacts import ArtifactRef, Store
from dr_irl.errors import StoreError
from tasks.contents import ADAPTER, REPORT


def export_run(store: Store, artifacts: Mapping[str, ArtifactRef], trained: str, record: str, output: Path) -> None:
    """Write the adapter that the node `trained` made, the report and the run's record to a folder.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        shutil.copytree(store.fetch(artifacts[trained]) / ADAPTER, output / ADAPTER, dirs_exist_ok=True)
        shutil.copyfile(store.fetch(artifacts["report"]) / REPORT, output / REPORT)
        (output / "run.json").write_text(record)
    except OSError as error:
        raise StoreError(
            f"cannot write the output folder {str(output)!r}: {error}; name another with --output"
        ) from error
