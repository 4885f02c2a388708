"""One run that is cancelled, loses its worker to SIGTERM, then to SIGKILL, and at last comes to its end."""

from typing import Any

import pytest
from deployed_site import Site

pytestmark = pytest.mark.slow


def test_a_cancelled_run_ends_cancelled(site: Site, cancelled: Any) -> None:
    assert site.state_names(cancelled.run_id)[-2:] == ["Cancelling", "Cancelled"]


def test_a_cancelled_run_leaves_no_process(cancelled: Any) -> None:
    assert cancelled.processes
    assert not [process for process in cancelled.processes if process.is_running()]


def test_the_same_run_goes_on_from_where_it_was_cancelled(terminated: Any) -> None:
    assert terminated.resumed_from() >= 1


def test_a_worker_that_is_terminated_leaves_no_process_of_its_run(terminated: Any) -> None:
    assert terminated.processes
    assert not [process for process in terminated.processes if process.is_running()]


def test_a_run_whose_worker_was_terminated_ends_crashed(site: Site, terminated: Any) -> None:
    assert site.state_names(terminated.run_id)[-1] == "Crashed"


def test_a_run_whose_worker_is_terminated_keeps_a_checkpoint_first(terminated: Any, killed: Any) -> None:
    assert killed.resumed_from() > terminated.resumed_from()


def test_a_run_that_was_killed_goes_on_from_its_checkpoint(killed: Any, finished: Any) -> None:
    assert finished.resumed_from() >= killed.resumed_from()


def test_a_run_that_goes_on_builds_no_earlier_stage_again(site: Site, finished: Any) -> None:
    states = {name: run["state"]["name"] for name, run in site.task_runs(finished.run_id).items()}
    assert {name for name, state in states.items() if state != "Cached"} == {"grpo"}


def test_a_run_that_goes_on_comes_to_its_end(site: Site, finished: Any) -> None:
    assert site.flow_run(finished.run_id)["state_type"] == "COMPLETED"


def test_at_the_end_no_checkpoint_and_no_lease_is_left(site: Site, finished: Any) -> None:
    assert (site.keys("checkpoints"), site.keys("leases")) == ([], [])
