from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from support.requests import Headers, Scope, Transport
from support.waiting import eventually
from trow.http.handlers.manifests import ManifestBodies
from trow.http.pace import Pace
from trow.http.peers import Peers
from trow.http.request import Request

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

KIB = 1024


def receiving(bodies: ManifestBodies, size: int, client: str) -> AbstractAsyncContextManager[bytes]:
    scope = Scope(method="PUT", client=client, headers=Headers([("content-length", str(size))]))
    pieces = [b"x" * KIB] * (size // KIB)
    return bodies.receive(Request(scope, Transport(*pieces), Peers(()), Pace(5)))


async def test_a_source_has_two_large_manifests_in_memory_at_a_time_and_small_ones_pass() -> None:
    bodies = ManifestBodies(200 * KIB)
    sizes: list[int] = []

    async def third() -> None:
        async with receiving(bodies, 100 * KIB, "192.0.2.1:3") as raw:
            sizes.append(len(raw))

    async with contextlib.AsyncExitStack() as two:
        for port in (1, 2):
            await two.enter_async_context(receiving(bodies, 100 * KIB, f"192.0.2.1:{port}"))
        waiting = asyncio.create_task(third())
        await eventually(lambda: bodies.large.waiting == 1)
        async with (
            receiving(bodies, 64 * KIB, "192.0.2.1:4") as small,
            receiving(bodies, 65 * KIB, "192.0.2.2:1") as other,
        ):
            assert (len(small), len(other)) == (64 * KIB, 65 * KIB)
        assert sizes == []
    await waiting
    assert sizes == [100 * KIB]
    assert bodies.large.working == 0
