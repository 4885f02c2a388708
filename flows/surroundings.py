"""What a command makes of its surroundings before it does anything: proxies, and folders that can be written.

The environment it leaves is also that of all processes it starts: a Prefect server, a worker and its runs.
"""

import os
import pwd
import tempfile
from collections.abc import Iterable, MutableMapping
from pathlib import Path

from dr_irl.errors import UserError

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
FOLDERS = {
    "PREFECT_HOME": ".prefect",
    "DR_IRL_CACHE": ".cache/dr-irl",
    "HF_HOME": ".cache/huggingface",
    "MPLCONFIGDIR": ".config/matplotlib",
}
"""Variable -> the folder below HOME, where it is not set, that a run writes into."""


def settle_surroundings() -> list[str]:
    """Keep this machine's own servers off proxies, and name writable folders where HOME has none.

    Returns:
        A sentence for each folder that lies elsewhere than usual.

    Raises:
        UserError: no folder at all can be written, or one that a variable names cannot.
    """
    spare_loopback(os.environ)
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        raise UserError(
            "no folder for temporary files can be written: neither TMPDIR, /tmp, /var/tmp nor this one; set TMPDIR to "
            "one that can"
        ) from None
    _name_user(os.environ)
    return _settle_homes(os.environ)


def spare_loopback(environment: MutableMapping[str, str]) -> None:
    """Add this machine's own names to what is never asked by way of a proxy, where there is one."""
    if not any(name.lower() in PROXIES for name in environment):
        return
    # Libraries differ in which of the two they read, and in which goes first.
    for name, other in (("no_proxy", "NO_PROXY"), ("NO_PROXY", "no_proxy")):
        spared = [host.strip() for host in environment.get(name, environment.get(other, "")).split(",") if host.strip()]
        if "*" not in spared:
            environment[name] = ",".join([*spared, *(host for host in LOOPBACK if host not in spared)])


def _settle_homes(environment: MutableMapping[str, str]) -> list[str]:
    said: list[str] = []
    home = _home()
    for name, below in FOLDERS.items():
        if given := environment.get(name):
            if name in ("PREFECT_HOME", "DR_IRL_CACHE") and not can_be_written(Path(given).expanduser()):
                raise UserError(f"{name} is {given!r}, which cannot be written; set it to a folder that can")
        elif home is None or not can_be_written(home / below):
            environment[name] = str(scratch_folder() / below.rpartition("/")[2].removeprefix("."))
            said.append(name)
    if not said:
        return []
    where = scratch_folder()
    _require_own(where)
    missing = "there is no home folder" if home is None else f"the home folder {str(home)!r} cannot be written"
    return [f"{missing}: what is kept there lies in {where}; set HOME, or {' and '.join(said)}, to keep it elsewhere"]


def scratch_folder() -> Path:
    """Return the folder that stands in for a home folder that cannot be written."""
    return Path(tempfile.gettempdir()) / f"dr-irl-{os.getuid()}"


def _require_own(folder: Path) -> None:
    """Make a folder in a place that all users write to; one of another user might hold anything."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"{str(folder)!r} belongs to another user; remove it, or set HOME to a folder of yours")


def can_be_written(folder: Path) -> bool:
    """Tell whether files can be written into a folder, or it can be made; nothing is left there."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return True
    except OSError:
        return False


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # HOME is not set, and nobody knows this user
        return None


def _name_user(environment: MutableMapping[str, str]) -> None:
    """Give a user that no list of users has a name: libraries ask for it to name folders."""
    if not _any_set(environment, ("LOGNAME", "USER", "LNAME", "USERNAME")):
        try:
            pwd.getpwuid(os.getuid())
        except KeyError:
            environment["USER"] = f"uid{os.getuid()}"


def _any_set(environment: MutableMapping[str, str], names: Iterable[str]) -> bool:
    return any(environment.get(name) for name in names)
