"""Memory goes back to the system when there is nothing to do.

A push of many streams leaves the C library with free buffers that it keeps for the next one. In a cluster the idle
hours count, so they are returned once the server has been quiet for a while.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_QUIET_SECONDS: Final = 5.0
# Objects that are new, before the collector looks for cycles.
_COLLECT_AFTER: Final = 5_000

# The HTTP server brings an allocator of its own, which frees only when it is asked for more, so that what a thousand
# readers took stayed until the next thousand came. A thread of its own frees after a second (jemalloc(3), TUNING).
_SERVER_ALLOCATOR: Final = ("_RJEM_MALLOC_CONF", "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0")


def configure_server_memory() -> None:
    """Have the HTTP server give memory back. It reads this when it is loaded; what the environment says goes before."""
    os.environ.setdefault(*_SERVER_ALLOCATOR)


def settle_memory() -> None:
    """Exclude what was loaded from garbage collection, and collect rarely: requests leave no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


async def return_memory(answered: Callable[[], int]) -> None:
    """Return free memory after each busy time, until cancelled.

    Args:
        answered: how many requests have been answered so far.
    """
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim  # malloc_trim(3)
    except (OSError, AttributeError):  # pragma: no cover - other C libraries have none, and keep less
        return
    before = trimmed = answered()
    while True:
        await asyncio.sleep(_QUIET_SECONDS)
        now = answered()
        if now == before != trimmed:
            await asyncio.to_thread(trim, 0)
            trimmed = now
        before = now
