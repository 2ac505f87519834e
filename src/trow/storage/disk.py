"""Threads for what takes time on a disk and is done in one go: flushing, reading again, removing.

Their number is fixed for all uploads, and no owner has all of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from trow.lib.shares import Bounds, Shares
from trow.lib.threads import started_pool

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

_THREADS: Final = 8
_OF_ONE_OWNER: Final = 6
_WAITING: Final = 65_536
# A flush of some gigabytes takes a slow disk a minute, and others may be before it.
_PATIENCE_SECONDS: Final = 120.0


class DiskThreads:
    """The threads of all uploads.

    Raises:
        ThreadsError: the system refuses the threads.
    """

    def __init__(self) -> None:
        self._pool = started_pool(_THREADS, "trow-disk")
        self._places = Shares(Bounds(_THREADS, _OF_ONE_OWNER, _WAITING, _WAITING, _PATIENCE_SECONDS), "uploads")

    async def run(self, owner: str, work: Callable[[], Result]) -> Result:
        """Have something done. It is over when this returns, also when the request is cancelled.

        Raises:
            TooManyRequests, Unavailable: no thread was free for too long.
        """
        async with self._places.hold(owner):
            return await self.run_now(work)

    async def run_now(self, work: Callable[[], Result]) -> Result:
        """The same for what takes little and must not be refused: it looks at something, or gives something back."""
        doing = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            await asyncio.wait([doing])
            raise

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
