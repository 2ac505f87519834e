"""Work that goes on while a test looks at what comes of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from trow.kube.client import KubeClient


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
