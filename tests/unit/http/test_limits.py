from __future__ import annotations

import pytest

from support.clock import Clock
from trow.http import limits
from trow.http.limits import RateLimit
from trow.oci.errors import TooManyRequests


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(limit: RateLimit, client: str, times: int) -> int:
    """How many of ``times`` requests are let through."""
    count = 0
    for _ in range(times):
        try:
            limit.take(client)
        except TooManyRequests:
            continue
        count += 1
    return count


def test_burst_and_then_the_rate(clock: Clock) -> None:
    limit = RateLimit(10, 5, clock)
    assert taken(limit, "a", 20) == 5
    clock.now += 0.2
    assert taken(limit, "a", 20) == 2
    clock.now += 3600
    assert taken(limit, "a", 20) == 5


def test_rate_holds_over_time(clock: Clock) -> None:
    limit = RateLimit(10, 5, clock)
    count = 0
    for _ in range(1000):
        clock.now += 0.01
        count += taken(limit, "a", 3)
    assert count == pytest.approx(10 * 10 + 5, abs=1)


def test_clients_do_not_take_from_each_other(clock: Clock) -> None:
    limit = RateLimit(1, 2, clock)
    assert [taken(limit, client, 9) for client in ("a", "b", "a")] == [2, 2, 0]


def test_refusals_cost_nothing(clock: Clock) -> None:
    limit = RateLimit(1, 1, clock)
    assert taken(limit, "a", 1000) == 1
    clock.now += 1
    assert taken(limit, "a", 1000) == 1


@pytest.mark.parametrize(("per_second", "seconds"), [(1, 1), (10, 1), (1000, 1)])
def test_retry_after_is_enough(clock: Clock, per_second: int, seconds: int) -> None:
    limit = RateLimit(per_second, 1, clock)
    limit.take("a")
    with pytest.raises(TooManyRequests) as caught:
        limit.take("a")
    assert caught.value.retry_after == seconds
    clock.now += caught.value.retry_after
    limit.take("a")


def test_memory_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MOST_CLIENTS", 3)
    limit = RateLimit(1, 1, clock)
    for client in "abcd":
        limit.take(client)
    assert len(limit._buckets) == 3  # noqa: SLF001 - the bound is the point
    assert taken(limit, "d", 1) == 0
    assert taken(limit, "a", 1) == 1


def test_refused_client_is_not_forgotten_first(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MOST_CLIENTS", 2)
    limit = RateLimit(1, 1, clock)
    for client in ("a", "b"):
        limit.take(client)
    assert taken(limit, "a", 1) == 0
    limit.take("c")
    assert taken(limit, "a", 1) == 0
