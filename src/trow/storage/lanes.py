"""Threads that hash and write what the event loop receives, so that receiving, hashing and writing overlap.

Both hashing and writing release the interpreter lock, hence on two cores a push runs at the speed of the slowest of the
three, not at their sum. A lane is one thread that works through what it is given in order; an upload of any size uses
two for as long as one request's body lasts.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable

# Chunks of about 400 kB that may be under way in a lane. Two keep it busy; more only cost memory. With so many lanes
# that they keep all cores busy together, one is enough.
_IN_FLIGHT: Final = 2
_MANY_LANES: Final = 16

_Work = tuple["Feed", "Callable[[bytes], object]", bytes]


class Lane:
    """One thread that runs one call after the other."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="trow-lane", daemon=True).start()

    def put(self, feed: Feed, work: Callable[[bytes], object], chunk: bytes) -> None:
        """Let the thread call ``work(chunk)`` and tell ``feed`` when that is done."""
        self._queue.put((feed, work, chunk))

    def end(self) -> None:
        """Let the thread end after what it has been given."""
        self._queue.put(None)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            feed, work, chunk = item
            try:
                if feed.error is None:
                    work(chunk)
            except BaseException as error:  # noqa: BLE001 - handed to the request that waits for it
                feed.fail(error)
            # Nothing may keep the chunk alive while the lane waits for the next one.
            del item, work, chunk
            feed.done_one()
            del feed


class Feed:
    """The event loop's end of the lanes during one request: hands chunks out and waits when too many are under way."""

    def __init__(self, works: list[tuple[Lane, Callable[[bytes], object]]], lanes: LanePool) -> None:
        self._loop = asyncio.get_running_loop()
        self._works = works
        self._lanes = lanes
        self._lock = threading.Lock()
        self._pending = 0
        self._waiter: asyncio.Future[None] | None = None
        self._wake_at = 0
        self.error: BaseException | None = None

    async def run(self, chunks: AsyncIterable[bytes]) -> None:
        """Give every chunk to every lane.

        Raises:
            OSError: what a lane's work raised.
        """
        try:
            async for chunk in chunks:
                with self._lock:
                    self._pending += len(self._works)
                for lane, work in self._works:
                    lane.put(self, work, chunk)
                del chunk
                await self._until((self._lanes.in_flight - 1) * len(self._works))
                if self.error is not None:
                    break
        finally:
            await self._until(0)
        self._raise()

    def _raise(self) -> None:
        """Raise the first error; one that its own traceback leads to would keep the connection until a collection."""
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error

    def fail(self, error: BaseException) -> None:
        """Keep the first error (called by a lane)."""
        with self._lock:
            self.error = self.error or error

    def done_one(self) -> None:
        """Count a finished call and wake the loop if that is what it waits for (called by a lane)."""
        with self._lock:
            self._pending -= 1
            waiter = self._waiter if self._pending <= self._wake_at else None
            if waiter is not None:
                self._waiter = None
        if waiter is not None:
            self._loop.call_soon_threadsafe(_wake, waiter)

    async def _until(self, most: int) -> None:
        with self._lock:
            if self._pending <= most:
                return
            waiter = self._waiter = self._loop.create_future()
            self._wake_at = most
        # Shielded: a cancelled request still has to wait until no lane uses its file any more.
        try:
            await asyncio.shield(waiter)
        except asyncio.CancelledError:
            await waiter
            raise


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class LanePool:
    """Lanes that wait for their next upload."""

    def __init__(self, keep: int = 32) -> None:
        self._idle: list[Lane] = []
        self._keep = keep
        self._busy = 0

    @property
    def in_flight(self) -> int:
        """How many chunks may be under way in each lane."""
        return _IN_FLIGHT if self._busy <= _MANY_LANES else 1

    def take(self) -> Lane:
        """A lane, new if none is idle."""
        self._busy += 1
        return self._idle.pop() if self._idle else Lane()

    def give(self, lane: Lane) -> None:
        """Return a lane that has nothing left to do."""
        self._busy -= 1
        if len(self._idle) < self._keep:
            self._idle.append(lane)
        else:
            lane.end()

    def close(self) -> None:
        """End the idle lanes."""
        while self._idle:
            self._idle.pop().end()
