"""Progress on a terminal, without one, and for nobody."""

import os
import pty
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import TextIO

import pytest

from dr_irl.progress import ConsoleProgress, Progress, SilentProgress


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("dr_irl.progress.time", SimpleNamespace(monotonic=made.monotonic))
    return made


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[TextIO]:
    """A file to write to and read from: what stands in for a terminal in a batch job."""
    with (tmp_path / "log").open("w+") as opened:
        yield opened


def written(stream: TextIO) -> str:
    stream.seek(0)
    return stream.read()


@pytest.mark.parametrize("progress", [SilentProgress(), ConsoleProgress()])
def test_every_progress_is_one(progress: object) -> None:
    assert isinstance(progress, Progress)


def test_a_line_says_units_readings_and_seconds_left(clock: Clock, stream: TextIO) -> None:
    meter = ConsoleProgress(stream, seconds_between_lines=10.0).stage("GRPO", 40, "steps")
    clock.now += 20  # 10 of 40 steps in 20 s: 60 s for the other 30
    meter.__enter__().advance(10, loss=0.12345)
    assert written(stream) == "GRPO 10/40 steps | loss 0.123 | 60 s left\n"


def test_steps_of_an_earlier_run_say_nothing_of_the_time_left(clock: Clock, stream: TextIO) -> None:
    meter = ConsoleProgress(stream, seconds_between_lines=10.0).stage("GRPO", 40, "steps")
    meter.resume(20)
    clock.now += 20
    meter.__enter__().advance(0)
    clock.now += 10  # 10 steps in 30 s: 30 s for the last 10
    meter.advance(10)
    assert written(stream).splitlines() == ["GRPO 20/40 steps | time left unknown", "GRPO 30/40 steps | 30 s left"]


def test_a_stage_that_was_stopped_does_not_pass_for_a_whole_one(clock: Clock, stream: TextIO) -> None:
    with suppress(InterruptedError), ConsoleProgress(stream).stage("GRPO", 40, "steps"):
        clock.now += 3
        raise InterruptedError
    assert written(stream) == "GRPO 0/40 steps | ended after 3 s\n"


def test_lines_keep_their_distance(clock: Clock, stream: TextIO) -> None:
    with ConsoleProgress(stream, seconds_between_lines=10.0).stage("GRPO", 100, "steps") as meter:
        for _ in range(30):
            clock.now += 1
            meter.advance()
        assert written(stream).count("\n") == 3


def test_a_finished_stage_ends_with_one_line(clock: Clock, stream: TextIO) -> None:
    with ConsoleProgress(stream, seconds_between_lines=0.0).stage("hardness", 2, "pairs") as meter:
        clock.now += 3
        meter.advance(2)
    assert written(stream) == "hardness 2/2 pairs | 3 s in all\n"


def test_readings_before_the_first_unit_do_not_divide_by_zero(clock: Clock, stream: TextIO) -> None:
    with ConsoleProgress(stream, seconds_between_lines=1.0).stage("GRPO", 2, "steps") as meter:
        clock.now += 5
        meter.advance(0, loss=1.0)
    assert written(stream).splitlines()[0] == "GRPO 0/2 steps | loss 1 | time left unknown"


def test_names_are_no_markup(clock: Clock, stream: TextIO) -> None:
    with ConsoleProgress(stream).stage("reward [bold] :smile:", 1, "steps"):
        pass
    assert written(stream).startswith("reward [bold] :smile: 0/1")


def test_threads_lose_no_unit(stream: TextIO) -> None:
    with ConsoleProgress(stream).stage("tokens", 8000, "tokens") as meter, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: meter.advance(), range(8000)))
    assert written(stream).startswith("tokens 8000/8000 tokens")


def test_silence_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with SilentProgress().stage("GRPO", 1, "steps") as meter:
        meter.advance(1, loss=1.0)
    assert capfd.readouterr() == ("", "")


def on_terminal(kind: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run two stages, one of them from several threads, on a pseudo-terminal; returns what it was sent."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", kind)
    ours, theirs = pty.openpty()
    received: list[bytes] = []
    reader = Thread(target=_drain, args=(ours, received))
    reader.start()
    with os.fdopen(theirs, "w") as stream, ConsoleProgress(stream) as progress:
        with progress.stage("reward [insult]", 2, "steps") as meter:
            meter.advance(2, loss=0.5)
        with progress.stage("tokens", 400, "tokens") as meter, ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: meter.advance(), range(400)))
    reader.join(timeout=30)
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(received).decode())


def _drain(descriptor: int, received: list[bytes]) -> None:
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # Linux says so when the other end is closed
            return
        received.append(part)


def test_a_terminal_shows_a_live_line_per_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in on_terminal("xterm", monkeypatch).splitlines() if line.strip()][-2:]
    assert [line.split("━")[0].strip() for line in lines] == ["reward [insult]", "tokens"]
    assert ("2/2" in lines[0], "400/400" in lines[1]) == (True, True)


def test_a_terminal_that_cannot_redraw_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "reward [insult] 2/2 steps | loss 0.5 | 0 s in all" in on_terminal("dumb", monkeypatch)


def test_a_file_gets_no_escapes(stream: TextIO) -> None:
    with ConsoleProgress(stream) as progress, progress.stage("GRPO", 1, "steps") as meter:
        meter.advance()
    assert "\x1b" not in written(stream)
