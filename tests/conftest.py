"""Shared by all tests: no network, no user's Prefect, one torch thread, patient property tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
}
# Sums split over threads round differently; results of tests must not depend on how many cores there are.
torch.set_num_threads(1)
# A shared machine stalls now and then; how long an example takes is no property of the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


class ByFile(LoadScopeScheduling):
    """Keeps in one process what shares fixtures: the tests of a file, and all that use the one deployed site.

    xdist's own groups (`loadgroup`) have no effect with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        return "site" if "deployments/site/" in file else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Distribute tests so that no fixture is made twice."""
    return ByFile(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Keep bytes out of names: packed ones hold the second of packing, and every process must collect the same."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Prefect home of the session's own, for commands run as processes."""
    home = tmp_path_factory.mktemp("prefect")
    before = os.environ.get("PREFECT_HOME")
    os.environ["PREFECT_HOME"] = str(home)
    yield home
    if before is None:
        del os.environ["PREFECT_HOME"]
    else:
        os.environ["PREFECT_HOME"] = before
