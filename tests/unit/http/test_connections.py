from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from support.clock import Clock
from trow.http.connection_monitor import ConnectionMonitor
from trow.http.connections import SMALL, Activity, Connections
from trow.lib import sockets
from trow.lib.shares import Bounds
from trow.lib.sockets import Socket, State
from trow.oci.errors import OciError, TooManyRequests, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable

ALICE, BOB = "192.0.2.1", "192.0.2.2"
LARGE: Final = 100_000
PLACE: Final = 2**20
WORK = Bounds(total=4, each=2, waiting=0, waiting_each=0, patience=0)


class Kernel:
    """What the kernel would say of the connections."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken = 0
        self.pending = True
        monkeypatch.setattr(sockets, "state_now", lambda _: State(0, 0, self.taken, self.pending))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connections(clock: Clock) -> Connections:
    return Connections(Bounds(total=4, each=3, waiting=2, waiting_each=1, patience=0.01), PLACE, WORK, clock)


def begin(connections: Connections, client: str, port: int = 1, *, http2: bool = False) -> Activity:
    activity = connections.begin(f"{client}:{port}", http2=http2)
    activity.socket = Socket(port, b"cookie")
    return activity


async def give(connections: Connections, client: str, port: int, size: int = LARGE, *, http2: bool = False) -> Activity:
    """Ask for something, and be given it."""
    activity = begin(connections, client, port, http2=http2)
    try:
        await connections.reserve(activity, client, size, memory=True)
    finally:
        connections.end(activity)
    return activity


async def outcome(giving: Awaitable[Activity]) -> type:
    try:
        return type(await giving)
    except OciError as error:
        return type(error)


async def test_small_answers_need_no_place(connections: Connections, kernel: Kernel) -> None:
    for port in range(100):
        await give(connections, ALICE, port, SMALL)
    assert connections.downloads == 0


async def test_nothing_is_counted_where_the_system_does_not_tell_what_was_taken(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be counted forever, and in the end nobody would get a large answer."""
    monkeypatch.setattr(sockets, "supported", lambda: False)
    ConnectionMonitor(connections).start(asyncio.get_running_loop())
    for port in range(100):
        await give(connections, ALICE, port, http2=port % 2 == 0)
    assert (connections.downloads, connections.names()) == (0, [])


async def test_large_answers_have_a_bound_and_each_source_its_share(connections: Connections, kernel: Kernel) -> None:
    for port in range(3):
        await give(connections, ALICE, port)
    with pytest.raises(Unavailable):
        await give(connections, ALICE, 3)
    await give(connections, BOB, 1)
    assert connections.downloads == 4
    with pytest.raises(Unavailable):
        await give(connections, BOB, 2)


async def test_one_source_does_not_fill_the_queue(connections: Connections, kernel: Kernel) -> None:
    for port in range(3):
        await give(connections, ALICE, port)
    found = await asyncio.gather(*(give(connections, ALICE, port) for port in range(3, 6)), return_exceptions=True)
    assert [type(each) for each in found].count(TooManyRequests) == 2


async def test_connection_without_http_2_holds_one_place_whatever_it_asks_for(
    connections: Connections, kernel: Kernel
) -> None:
    activities = [await give(connections, ALICE, 1) for _ in range(10)]
    assert connections.downloads == activities[0].places == 1


async def test_answers_over_http_2_hold_a_place_each(connections: Connections, kernel: Kernel) -> None:
    activities = [await give(connections, ALICE, 1, http2=True) for _ in range(3)]
    assert connections.downloads == activities[0].places == 3


async def test_small_answers_over_http_2_that_nobody_takes_need_places(
    connections: Connections, kernel: Kernel
) -> None:
    found = [await outcome(give(connections, ALICE, 1, 60_000, http2=True)) for _ in range(20)]
    assert found == [*[Activity] * 7, *[Unavailable] * 13]
    assert connections.downloads == 3


async def test_small_answers_over_http_2_that_are_taken_need_none(connections: Connections, kernel: Kernel) -> None:
    kernel.pending = False
    for _ in range(100):
        await give(connections, ALICE, 1, 60_000, http2=True)
        kernel.taken += 60_100
    assert connections.downloads == 0


async def test_small_answers_over_http_2_that_are_taken_need_none_though_others_are_always_coming(
    connections: Connections, kernel: Kernel
) -> None:
    for _ in range(100):
        await give(connections, ALICE, 1, 60_000, http2=True)
        kernel.taken += 60_100
    assert connections.downloads == 0


async def test_large_answers_over_http_2_that_are_taken_give_their_places_back_though_others_are_coming(
    connections: Connections, clock: Clock, kernel: Kernel
) -> None:
    """A node that pulls three layers at a time over one connection never has all it was promised."""
    activity = await give(connections, ALICE, 1, http2=True)
    kernel.taken += LARGE // 2
    for _ in range(50):
        await give(connections, ALICE, 1, http2=True)
        kernel.taken += LARGE
        assert activity.places <= 2
    connections.update([(activity, State(0, 0, kernel.taken, pending=True))], [], clock.now + 1)
    assert activity.places == connections.downloads == 1


async def test_large_answers_over_http_2_that_are_not_taken_keep_their_places(
    connections: Connections, kernel: Kernel
) -> None:
    for _ in range(3):
        await give(connections, ALICE, 1, http2=True)
        kernel.taken += 1_000
    assert connections.downloads == 3


async def test_watch_looks_for_a_connection_before_it_matters(connections: Connections, kernel: Kernel) -> None:
    woken: list[bool] = []
    connections.wake = lambda: woken.append(True)
    activity = connections.begin(f"{ALICE}:1", http2=True)
    await connections.reserve(activity, ALICE, 40_000, memory=True)
    assert not woken
    await connections.reserve(activity, ALICE, 40_000, memory=True)
    assert woken


async def test_what_is_in_memory_needs_places_by_its_size(
    connections: Connections, clock: Clock, kernel: Kernel
) -> None:
    await give(connections, ALICE, 1, 2 * PLACE)
    assert connections.downloads == 2
    await give(connections, BOB, 1, 2 * PLACE)
    connections.update([], [f"{ALICE}:1", f"{BOB}:1"], clock.now + 1)
    await give(connections, ALICE, 2, 100 * PLACE)
    assert connections.downloads == 3, "all that one source may have"


async def test_place_is_free_again_when_all_was_taken_or_the_connection_is_gone(
    connections: Connections, clock: Clock, kernel: Kernel
) -> None:
    activities = [await give(connections, ALICE, port) for port in range(3)]
    later = clock.now + 1
    connections.update([(activities[0], State(0, 0, LARGE, pending=False))], [f"{ALICE}:1"], later)
    assert connections.downloads == 1
    assert connections.get(f"{ALICE}:1") is None
    assert activities[0].base == LARGE


async def test_what_the_watch_has_seen_twice_is_taken_up_once(
    connections: Connections, clock: Clock, kernel: Kernel
) -> None:
    """It looks every second, and the loop of a busy machine may take longer to hear of it."""
    await give(connections, ALICE, 1)
    await give(connections, ALICE, 2)
    for _ in range(2):
        connections.update([], [f"{ALICE}:1", f"{ALICE}:2"], clock.now + 1)
    assert connections.downloads == 0
    assert connections.names() == []


async def test_what_began_after_the_look_is_left_alone(connections: Connections, clock: Clock, kernel: Kernel) -> None:
    activity = await give(connections, ALICE, 1)
    connections.update([(activity, State(0, 0, LARGE, pending=False))], [f"{ALICE}:1"], clock.now)
    running = begin(connections, ALICE, 2)
    connections.update([], [f"{ALICE}:2"], clock.now + 1)
    assert connections.downloads == 1
    assert connections.get(f"{ALICE}:2") is running


async def test_watch_is_woken_when_places_become_few(connections: Connections, kernel: Kernel) -> None:
    woken: list[bool] = []
    connections.wake = lambda: woken.append(True)
    for port in range(3):
        await give(connections, ALICE, port)
    assert not woken
    assert connections.surplus == 1
    await give(connections, BOB, 1)
    assert woken


def test_first_request_of_a_source_that_has_too_many_connections_is_refused(connections: Connections) -> None:
    connections.over = frozenset({ALICE})
    first, other = begin(connections, ALICE), begin(connections, BOB)
    with pytest.raises(Unavailable):
        connections.check(first, ALICE)
    connections.check(other, BOB)
    connections.check(begin(connections, ALICE), ALICE)


async def test_few_large_answers_end_at_a_time_however_many_wait(clock: Clock) -> None:
    """What they held is free some moments later, when those that wait have begun to take as much."""
    many = Connections(Bounds(64, 64, 64, 64, 1), PLACE, WORK, clock)
    for port in range(64):
        await give(many, ALICE, port)
    assert many.surplus == 4
