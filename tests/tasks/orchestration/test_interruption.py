"""What a stage that is asked to stop says, and to whom the signal goes on."""

import signal
import sys
from collections.abc import Iterator

import pytest
from prefect.exceptions import TerminationSignal
from prefect.utilities.engine import capture_sigterm, is_prefect_sigterm_handler_installed

from dr_irl.errors import InterruptedRunError
from tasks.orchestration import interruption
from tasks.orchestration.interruption import interruption_by, stop_if_requested, stop_requested, stopping_on_signals


class HeardError(Exception):
    """Raised by whoever handled the signal before."""


@pytest.fixture(autouse=True)
def nobody_asked() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    interruption._asked_by.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


def ask_to_stop(number: signal.Signals) -> None:
    def hear(*_: object) -> None:
        raise HeardError

    signal.signal(number, hear)
    with pytest.raises(HeardError), stopping_on_signals():
        signal.raise_signal(number)


@pytest.mark.parametrize(
    ("number", "word", "status"), [(signal.SIGTERM, "stopped by SIGTERM; ", 143), (signal.SIGINT, "interrupted; ", 130)]
)
def test_a_stage_stops_with_the_sentence_and_status_of_its_signal(
    number: signal.Signals, word: str, status: int
) -> None:
    ask_to_stop(number)
    with pytest.raises(InterruptedRunError, match=f"^{word}") as stopped:
        stop_if_requested()
    assert stopped.value.exit_status == status


def test_nobody_stops_who_was_not_asked_to() -> None:
    stop_if_requested()
    assert not stop_requested()


def test_a_process_that_was_stopped_may_run_again() -> None:
    ask_to_stop(signal.SIGTERM)
    with stopping_on_signals():
        assert not stop_requested()


def test_a_signal_that_was_ignored_still_is() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopping_on_signals():
        signal.raise_signal(signal.SIGINT)
        assert not stop_requested()


def test_prefect_finds_its_own_handler_of_sigterm_in_a_flow() -> None:
    with capture_sigterm(), stopping_on_signals():
        assert is_prefect_sigterm_handler_installed()


def test_a_stage_of_a_flow_stops_when_prefect_heard_sigterm() -> None:
    with pytest.raises(TerminationSignal), stopping_on_signals():
        raise TerminationSignal(signal=signal.SIGTERM)
    assert stop_requested()


def test_after_prefect_heard_sigterm_no_signal_waits_for_the_step() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    with pytest.raises(TerminationSignal), stopping_on_signals():
        raise TerminationSignal(signal=signal.SIGTERM)
    assert {signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)} == {signal.SIG_DFL}


class Destroyed:
    """Receives a signal while it is destroyed; whatever its handler raises there is lost."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_in_a_destructor_stops_the_stages_too(number: signal.Signals) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with capture_sigterm(), stopping_on_signals():
        Destroyed(number)
        assert stop_requested()


def test_other_errors_of_a_destructor_are_shown_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: shown.append(lost.exc_type))
    with stopping_on_signals():
        signal.signal(signal.SIGINT, lambda *_: 1 / 0)
        Destroyed(signal.SIGINT)
    assert shown == [ZeroDivisionError]


@pytest.mark.parametrize("error", [HeardError(), SystemExit(1), None])
def test_nothing_but_a_signal_interrupts(error: object) -> None:
    assert interruption_by(error) is None


def test_a_block_within_another_forgets_no_signal() -> None:
    with pytest.raises(TerminationSignal), stopping_on_signals():
        try:
            with stopping_on_signals():
                raise TerminationSignal(signal=signal.SIGTERM)
        except TerminationSignal:
            with stopping_on_signals():
                assert stop_requested()
            raise


def test_a_run_that_its_worker_cancels_is_left_to_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "get_intent", lambda: "cancel")
    assert interruption_by(TerminationSignal(signal=signal.SIGTERM)) is None
