"""Where this machine keeps what can be made or fetched again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of prepared models and downloads: `$DR_IRL_CACHE`, or `~/.cache/dr-irl`."""
    return Path(os.environ.get("DR_IRL_CACHE") or Path.home() / ".cache" / "dr-irl").expanduser()
