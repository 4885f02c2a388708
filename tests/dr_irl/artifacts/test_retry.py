"""When readings of the same thing settle what it is."""

import pytest

from dr_irl.artifacts import retry
from dr_irl.artifacts.retry import pauses, until_sound
from dr_irl.errors import CorruptArtifactError, StoreError


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.0)


def settle(readings: list[bytes | None]) -> bytes:
    """Read one after the other; only b"good" is sound."""
    return until_sound("it", iter(readings).__next__, lambda got: None if got == b"good" else "it is bad")


def test_a_sound_reading_settles_at_once() -> None:
    assert settle([b"good"]) == b"good"


def test_two_readings_that_agree_are_damage() -> None:
    with pytest.raises(CorruptArtifactError, match="it is bad"):
        settle([b"bad", b"bad"])


def test_readings_that_agree_need_not_follow_each_other() -> None:
    with pytest.raises(CorruptArtifactError):
        settle([b"bad", b"worse", b"bad"])


def test_one_bad_reading_is_no_damage() -> None:
    assert settle([b"bad", b"good"]) == b"good"


def test_readings_that_were_cut_short_are_no_damage() -> None:
    assert settle([None, None, None, b"good"]) == b"good"


@pytest.mark.parametrize("readings", [[None] * 4, [b"a", b"b", b"c", b"d"]], ids=["cut short", "all different"])
def test_four_readings_that_settle_nothing_are_told(readings: list[bytes | None]) -> None:
    with pytest.raises(StoreError, match="it arrived cut short or altered in 4 attempts"):
        settle(readings)


def test_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 1.0)
    first, second, third, last = pauses()
    assert (0.5 <= (first or 0) <= 1 <= (second or 0) <= 2 <= (third or 0) <= 4, last) == (True, None)
