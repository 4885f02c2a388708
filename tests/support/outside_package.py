"""Another package that is installed beside ours: one module, and the entry points that it brings."""

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, name: str, text: str, entry_points: Mapping[str, Mapping[str, str]]) -> None:
    """Put a package into a folder of PYTHONPATH, as an installer would.

    Args:
        folder: on PYTHONPATH of whoever shall find it.
        name: of the module.
        text: of the module.
        entry_points: group -> name -> what it stands for, `module:attribute`.
    """
    (folder / f"{name}.py").write_text(text)
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        line
        for group, points in entry_points.items()
        for line in (f"[{group}]", *(f"{point} = {entry}" for point, entry in points.items()), "")
    ]
    (about / "entry_points.txt").write_text("\n".join(lines))
