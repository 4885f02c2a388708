"""The champion as a task: the adapter that the run's result is measured against, and may start from."""

import shutil
from pathlib import Path

from dr_irl.artifacts.address import is_on_s3
from dr_irl.errors import ModelError
from dr_irl.language.resolve import download_tree, resolve_model
from tasks.contents import ADAPTER
from tasks.job import Job

_FILES = ("adapter_config.json", "adapter_model.safetensors")


def champion(folder: Path, job: Job) -> None:
    """Bring the adapter into the store, so that what the run compared stays with it.

    Raises:
        ModelError: there is no adapter in the layout of PEFT where the settings name one.
    """
    name = str(job.settings.models.champion)
    if is_on_s3(name):
        download_tree(name, folder / ADAPTER)
    else:
        shutil.copytree(resolve_model(name), folder / ADAPTER)
    if missing := [file for file in _FILES if not (folder / ADAPTER / file).is_file()]:
        raise ModelError(
            f"models.champion {name!r} holds no {' and no '.join(missing)}; it must name an adapter as PEFT saves it"
        )
