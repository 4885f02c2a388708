"""A run that was killed with its worker, so that nobody is left to say so. Last of its folder: it takes two minutes."""

from typing import Any

import pytest
from deployed_site import Site

pytestmark = pytest.mark.slow


def test_a_run_whose_worker_vanished_is_marked_crashed_within_minutes(site: Site, killed: Any) -> None:
    run = site.wait(killed.run_id, seconds=180)
    assert (run["state_type"], "heartbeat" in run["state"]["message"]) == ("CRASHED", True)
