from __future__ import annotations

from trow.lib.backoff import Backoff


def test_each_pause_is_up_to_twice_as_long_as_the_one_before() -> None:
    backoff = Backoff(1.0, 300.0)
    pauses = [backoff.fail() for _ in range(6)]
    assert all(2.0**n / 2 <= pause <= 2.0**n for n, pause in enumerate(pauses))
    assert backoff.failures == 6


def test_no_pause_is_longer_than_the_limit() -> None:
    backoff = Backoff(1.0, 30.0)
    assert max(backoff.fail() for _ in range(2000)) <= 30.0


def test_pauses_of_replicas_that_fail_together_differ() -> None:
    assert len({Backoff(1.0, 300.0).fail() for _ in range(20)}) > 1


def test_after_a_success_the_first_pause_comes_again() -> None:
    backoff = Backoff(1.0, 300.0)
    for _ in range(10):
        backoff.fail()
    backoff.succeed()
    assert (backoff.failures, backoff.pause) == (0, 0.0)
    assert backoff.fail() <= 1.0
