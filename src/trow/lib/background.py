"""Loops that run beside the server until it stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    Loop: TypeAlias = Callable[[], Coroutine[None, None, None]]

log = logging.getLogger(__name__)

_RESTART_SECONDS: Final = 5.0


@contextlib.asynccontextmanager
async def in_background(*loops: Loop) -> AsyncIterator[None]:
    """Run the loops as tasks until the end of the block; one that fails is started again."""
    tasks = [asyncio.create_task(restarting(loop)) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def restarting(loop: Loop, pause: float = _RESTART_SECONDS) -> None:
    """Run a loop, and start it again some seconds after it has ended or failed."""
    while True:
        try:
            await loop()
        except Exception:
            log.exception("a background task failed and is started again")
        await asyncio.sleep(pause)


def every(seconds: float, work: Callable[[], Awaitable[None]], pause: float = _RESTART_SECONDS) -> Loop:
    """A loop that does the work now, and again after each pause. After a failure, which is logged, it is longer."""

    async def loop() -> None:
        while True:
            try:
                await work()
            except Exception:
                log.exception("a periodic task failed; trying again in %g s", max(seconds, pause))
                await asyncio.sleep(max(seconds, pause))
            else:
                await asyncio.sleep(seconds)

    return loop
