"""Work that goes on beside the server until it stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

log = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 5.0


@contextlib.asynccontextmanager
async def beside(*work: Callable[[], Coroutine[None, None, None]]) -> AsyncIterator[None]:
    """Have all of it done until the end; what fails is begun again."""
    tasks = [asyncio.create_task(lasting(each)) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def lasting(work: Callable[[], Coroutine[None, None, None]], pause: float = _AGAIN_SECONDS) -> None:
    """Begin again some seconds after the end, whatever it was: else everything would stay as it is, unnoticed."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("work beside the server failed, and is begun again")
        await asyncio.sleep(pause)
