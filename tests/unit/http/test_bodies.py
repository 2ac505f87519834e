from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from support.requests import Headers, Scope, Transport
from support.waiting import eventually
from trow.http.bodies import Bodies, Tier
from trow.http.pace import Pace
from trow.http.peers import Peers
from trow.http.request import Request
from trow.lib.shares import Bounds, Shares
from trow.oci.errors import BodyTimeout, RequestInvalid, TooManyRequests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ONE_EACH = Bounds(total=2, each=1, waiting=4, waiting_each=1, patience=5)


class Unending(Transport):
    """Says no more after its pieces, and is not at its end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in super().__aiter__():
            yield piece
        await asyncio.Event().wait()


def sending(transport: Transport, client: str = "192.0.2.1:1") -> Request:
    return Request(Scope(method="POST", client=client, headers=Headers([])), transport, Peers(()), Pace(5))


def too_large() -> RequestInvalid:
    return RequestInvalid("too large")


@pytest.fixture
def places() -> Shares:
    return Shares(ONE_EACH, "bodies")


@pytest.fixture
def bodies(places: Shares) -> Bodies:
    return Bodies(100, too_large, [Tier(10, places)])


async def test_of_a_source_one_body_after_the_other_is_in_memory_and_small_ones_pass(
    bodies: Bodies, places: Shares
) -> None:
    async with contextlib.AsyncExitStack() as held:
        assert len(await held.enter_async_context(bodies.receive(sending(Transport(b"x" * 50))))) == 50
        waiting = asyncio.create_task(held.enter_async_context(bodies.receive(sending(Transport(b"x" * 11)))))
        await eventually(lambda: places.waiting == 1)
        with pytest.raises(TooManyRequests):
            await held.enter_async_context(bodies.receive(sending(Transport(b"x" * 50))))
        async with (
            bodies.receive(sending(Transport(b"x" * 5, b"x" * 5))) as small,
            bodies.receive(sending(Transport(b"x" * 50), "192.0.2.2:1")) as others,
        ):
            assert (len(small), len(others)) == (10, 50)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert places.working == 0


async def test_what_never_ends_keeps_its_place_for_a_time_only(places: Shares) -> None:
    bodies = Bodies(100, too_large, [Tier(10, places)], seconds=0.01)
    with pytest.raises(BodyTimeout, match=r"within 0\.01 seconds"):
        async with bodies.receive(sending(Unending(b"x" * 50))):
            pass
    assert places.working == 0


async def test_what_is_too_large_keeps_no_place(bodies: Bodies, places: Shares) -> None:
    with pytest.raises(RequestInvalid, match="too large"):
        async with bodies.receive(sending(Transport(b"x" * 50, b"x" * 51))):
            pass
    assert places.working == 0
