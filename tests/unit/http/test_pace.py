from __future__ import annotations

import pytest

from trow.http.pace import Pace, Patience


def total(pace: Pace, *pieces: tuple[float, int], most: int = 100_000) -> float:
    """How long a body that comes like this, over and over, is waited for; infinite when it always is."""
    patience, seconds = Patience(pace), 0.0
    for _ in range(most):
        for waited, received in pieces:
            if waited > patience.left:
                return seconds + patience.left
            patience.note(waited, received)
            seconds += waited
    return float("inf")


@pytest.mark.parametrize(
    "pieces",
    [[(1, 1024)], [(30, 30 * 1024)], [(59, 60 * 512)], [(1, 512)], [(0.001, 1)], [(59, 10**9), (1, 10**6)]],
    ids=["1 KiB/s", "30 KiB each 30 s", "in bursts", "at the least rate", "single bytes, but many", "with pauses"],
)
def test_a_slow_but_steady_body_is_always_waited_for(pieces: list[tuple[float, int]]) -> None:
    assert total(Pace(60, 512), *pieces) == float("inf")


@pytest.mark.parametrize("pause", [0.1, 1, 10, 59, 60, 61])
def test_a_byte_now_and_then_buys_no_time(pause: float) -> None:
    assert total(Pace(60, 512), (pause, 1)) < 75


def test_a_burst_buys_no_more_than_one_pause() -> None:
    patience = Patience(Pace(60, 512))
    patience.note(1, 10**12)
    assert patience.left == 60
    for _ in range(3):
        patience.note(20, 1)
    assert patience.left < 1


def test_silence_is_waited_for_as_long_as_the_pace_says() -> None:
    assert Patience(Pace(60, 512)).left == 60
    assert Patience(Pace(60)).left == 60


def test_without_a_rate_any_byte_is_enough() -> None:
    assert total(Pace(60), (59.9, 1)) == float("inf")
    assert total(Pace(60), (60.1, 1)) == 60
