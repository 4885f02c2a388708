"""Another package that is installed: modules and entry points in a folder, for processes that have it on their path."""

from collections.abc import Mapping
from pathlib import Path


def write_package(folder: Path, modules: Mapping[str, str], entry_points: Mapping[str, Mapping[str, str]]) -> Path:
    """Write a package as pip would leave it, and return the folder for PYTHONPATH.

    Args:
        folder: is made.
        modules: name -> source.
        entry_points: group -> name -> `module:attribute`.
    """
    about = folder / "own_package-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: own-package\nVersion: 1.0\n")
    groups = (
        f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in names.items()) for group, names in entry_points.items()
    )
    (about / "entry_points.txt").write_text("\n".join(groups))
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    return folder
