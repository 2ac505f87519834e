from __future__ import annotations

import itertools
import math

import pytest

from support.clock import Clock
from trow.identity import throttle as module
from trow.identity.throttle import Throttle
from trow.oci.errors import TooManyRequests


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    return Throttle(clock)


def wait(throttle: Throttle, source: str = "10.0.0.1", user: str = "alice") -> int:
    try:
        throttle.check(source, user)
    except TooManyRequests as error:
        return error.retry_after
    return 0


def test_the_error_says_how_long(throttle: Throttle) -> None:
    fail(throttle, 6)
    with pytest.raises(TooManyRequests, match="too many failed logins") as caught:
        throttle.check("10.0.0.1", "alice")
    assert caught.value.retry_after == 2


def test_the_same_wrong_secret_again_is_no_further_guess(throttle: Throttle) -> None:
    for _ in range(100):
        throttle.failed("10.0.0.1", "alice", "an old pull secret")
    assert wait(throttle) == 0
    fail(throttle, 4)
    assert wait(throttle) == 1


guesses = itertools.count()


def fail(throttle: Throttle, times: int, source: str = "10.0.0.1", user: str = "alice") -> None:
    """As many different guesses."""
    for _ in range(times):
        throttle.failed(source, user, f"guess {next(guesses)}")


def test_four_failures_cost_nothing(throttle: Throttle) -> None:
    fail(throttle, 4)
    assert wait(throttle) == 0


def test_from_the_fifth_on_each_failure_doubles_the_wait(throttle: Throttle, clock: Clock) -> None:
    fail(throttle, 4)
    for seconds in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        fail(throttle, 1)
        assert wait(throttle) == seconds
        clock.now += seconds - 0.1
        assert wait(throttle) == 1
        clock.now += 0.1
        assert wait(throttle) == 0
    fail(throttle, 1)
    assert wait(throttle) == 300
    fail(throttle, 1000)
    assert wait(throttle) == 300


def test_a_window_of_15_minutes_begins_with_the_first_failure(throttle: Throttle, clock: Clock) -> None:
    fail(throttle, 4)
    clock.now = 899
    fail(throttle, 1)
    assert wait(throttle) == 1
    clock.now = 900
    fail(throttle, 1)  # the first of another
    assert wait(throttle) == 0


def test_others_do_not_wait(throttle: Throttle) -> None:
    fail(throttle, 10)
    assert wait(throttle) > 0
    assert wait(throttle, user="bob") == 0
    assert wait(throttle, user="") == 0
    assert wait(throttle, source="10.0.0.2") == 0


def test_success_clears_the_pair_alone(throttle: Throttle) -> None:
    fail(throttle, 10)
    throttle.succeeded("10.0.0.1", "bob")
    assert wait(throttle) > 0
    throttle.succeeded("10.0.0.1", "alice")
    assert wait(throttle) == 0


def test_no_number_of_failures_makes_other_users_of_the_source_wait(throttle: Throttle) -> None:
    for number in range(1000):
        fail(throttle, 5, user=f"user{number}")
    assert wait(throttle, user="user999") == 1
    assert wait(throttle, user="carol") == 0


def test_one_network_of_ipv6_is_one_source(throttle: Throttle) -> None:
    fail(throttle, 5, source="2001:db8::1")
    assert wait(throttle, source="2001:db8:0:0:ffff::2") == 1
    assert wait(throttle, source="2001:db8:0:1::1") == 0
    fail(throttle, 5, source="fe80::1%eth0")
    assert wait(throttle, source="fe80::2") == 1
    fail(throttle, 5, source="::ffff:10.0.0.9")
    assert wait(throttle, source="10.0.0.9") == 1
    assert wait(throttle, source="::ffff:10.0.0.8") == 0


@pytest.mark.parametrize("source", ["", "unix:", ":::", "host:80", "x" * 10_000])
def test_any_source_counts(throttle: Throttle, source: str) -> None:
    fail(throttle, 5, source=source)
    assert wait(throttle, source=source) == 1


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 100)
    throttle = Throttle(clock)
    fail(throttle, 5, source="10.9.9.9", user="x" * 10_000)
    for number in range(200):
        throttle.failed("10.0.0.1", f"user{number}", "guess")
    assert wait(throttle, source="10.9.9.9", user="x" * 10_000) == 0  # the pair was forgotten for others
    assert len(throttle._counts) <= 100  # noqa: SLF001
    assert max(len(user) for _, user in throttle._counts._entries) <= 128  # noqa: SLF001


def test_guessing_is_slow() -> None:
    clock = Clock(0.0)
    throttle = Throttle(clock)
    tries = 0
    while clock.now < 86400:
        throttle.check("10.0.0.1", "alice")
        throttle.failed("10.0.0.1", "alice", f"guess {tries}")
        tries += 1
        clock.now += max(wait(throttle), 0.001)
    assert tries < 1500
    assert math.isfinite(clock.now)
