"""Work that goes on while a test looks at what comes of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from trow.kube.client import KubeClient

SECONDS: Final = 20


@asynccontextmanager
async def running(work: Coroutine[None, None, None], client: KubeClient) -> AsyncIterator[None]:
    """Until the end of the block, which it must not reach by itself; then the client is closed too."""
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await client.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - it is about another thread too
            await asyncio.sleep(0.005)
