"""Threads that hash and write what the event loop receives, so that receiving, hashing and writing overlap.

Both hashing and writing release the interpreter lock, so on two cores a push runs at the speed of the slowest of the
three, not of their sum. There is a fixed number of threads for all uploads. None belongs to one, so an
upload that waits for bytes uses none. Chunks to hash and chunks to write wait in a queue each, and any free thread goes
on with them, in order.

No owner gets all the threads: each chunk under way holds a place, and owners share the places fairly (`Shares`).
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from trow.lib.shares import Bounds, Shares
from trow.lib.threads import start_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Sequence

# Chunks of about 400 kB of one upload that may be under way. Two keep both busy; more only cost memory.
_IN_FLIGHT: Final = 2
_LEAST_THREADS: Final = 4
_MOST_THREADS: Final = 32
# Each upload waits with one chunk at most, so these are as many as there may be connections.
_WAITING: Final = 65_536
_PATIENCE_SECONDS: Final = 60.0


class WorkerPool:
    """The threads of all uploads, and the places of the chunks that are under way.

    Args:
        count: how many threads; None has two for each core.

    Raises:
        ThreadsError: the system refuses the threads.
    """

    def __init__(self, count: int | None = None) -> None:
        if count is None:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            count = max(_LEAST_THREADS, min(_MOST_THREADS, 2 * cores))
        # Half of the places are one owner's, and enough for it to keep all threads busy.
        self.places: Final = Shares(Bounds(2 * count, count, _WAITING, _WAITING, _PATIENCE_SECONDS), "uploads")
        self._work: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._running = 0
        try:
            for _ in range(count):
                start_thread(self._run, "trow-worker")
                self._running += 1
        except BaseException:
            self.close()
            raise

    def put(self, work: Callable[[], object]) -> None:
        """Have something done by the next free thread; by this one after `close`."""
        with self._lock:
            if not self._closed:
                self._work.put(work)
                return
        work()

    @property
    def idle(self) -> bool:
        """Whether nothing waits for a thread."""
        return self._closed or self._work.empty()

    def close(self) -> None:
        """End the threads when they have done what was given to them."""
        with self._lock:
            self._closed = True
        for _ in range(self._running):
            self._work.put(None)
        self._running = 0

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # nothing may keep an upload alive while the thread waits


class _Piece:
    """A chunk that is under way, and in how many queues it still is."""

    __slots__ = ("chunk", "left")

    def __init__(self, chunk: bytes, left: int) -> None:
        self.chunk = chunk
        self.left = left


class _WorkQueue:
    """What is done with the chunks of one upload, one after the other."""

    def __init__(self, workers: WorkerPool, fan_out: FanOut, work: Callable[[bytes], object]) -> None:
        self._workers = workers
        self._fan_out = fan_out
        self._work = work
        self._lock = threading.Lock()
        self._pieces: deque[_Piece] = deque()
        self._running = False

    def put(self, piece: _Piece) -> None:
        with self._lock:
            self._pieces.append(piece)
            if self._running:
                return
            self._running = True
        self._workers.put(self._run)

    def _run(self) -> None:
        """Do one piece, and go on with the next unless another queue waits for this thread."""
        while True:
            piece = self._pieces.popleft()
            try:
                if self._fan_out.error is None:
                    self._work(piece.chunk)
            except BaseException as error:  # noqa: BLE001 - handed to the request that waits for it
                self._fan_out.fail(error)
            self._fan_out.done(piece)
            del piece
            with self._lock:
                self._running = bool(self._pieces)
                if not self._running:
                    return
            if not self._workers.idle:
                self._workers.put(self._run)
                return


class FanOut:
    """The event loop's end of the queues of one request: hands chunks out and waits when too many are under way.

    Args:
        works: what is to be done with each chunk; all at the same time, each in the order of the chunks.
        workers: the threads.
        owner: whose share of the places the chunks take.
    """

    def __init__(self, works: Sequence[Callable[[bytes], object]], workers: WorkerPool, owner: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._queues = [_WorkQueue(workers, self, work) for work in works]
        self._places = workers.places
        self._owner = owner
        self._lock = threading.Lock()
        self._pending = 0
        self._waiter: asyncio.Future[None] | None = None
        self._wake_at = 0
        self.error: BaseException | None = None

    async def run(self, chunks: AsyncIterable[bytes]) -> None:
        """Have every work done with every chunk.

        Raises:
            OSError: what one of them raised.
            TooManyRequests, Unavailable: no thread was free for too long.
        """
        try:
            async for chunk in chunks:
                await self._places.take(self._owner)
                piece = _Piece(chunk, len(self._queues))
                del chunk
                with self._lock:
                    self._pending += 1
                for each in self._queues:
                    each.put(piece)
                del piece
                await self._until(_IN_FLIGHT - 1)
                if self.error is not None:
                    break
        finally:
            await self._until(0)
            self._queues.clear()  # they lead back here, and a cycle would wait for a collection
        error, self.error = self.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # its own traceback leads to it, which would keep the connection until a collection

    def fail(self, error: BaseException) -> None:
        """Keep the first error (called by a thread)."""
        with self._lock:
            self.error = self.error or error

    def done(self, piece: _Piece) -> None:
        """A piece has been worked on (called by a thread): the last one tells the loop."""
        with self._lock:
            piece.left -= 1
            if piece.left:
                return
            self._pending -= 1
            waiter = self._waiter if self._pending <= self._wake_at else None
            if waiter is not None:
                self._waiter = None
        self._loop.call_soon_threadsafe(self._finished, waiter)

    def _finished(self, waiter: asyncio.Future[None] | None) -> None:
        self._places.give_back(self._owner)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _until(self, most: int) -> None:
        with self._lock:
            if self._pending <= most:
                return
            waiter = self._waiter = self._loop.create_future()
            self._wake_at = most
        # Shielded: a cancelled request still has to wait until no thread uses its file any more.
        try:
            await asyncio.shield(waiter)
        except asyncio.CancelledError:
            await waiter
            raise
