"""A number of places for work, shared fairly between those who ask for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.oci.errors import OciError, TooManyRequests, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_RETRY_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much there is of a resource.

    Attributes:
        total: places in all.
        each: places that one source may hold at a time.
        waiting: how many may wait for a place in all; 0 refuses at once.
        waiting_each: how many of one source may wait.
        patience: seconds that one waits at most.
    """

    total: int
    each: int
    waiting: int
    waiting_each: int
    patience: float


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """One who waits, and for how many places."""

    come: asyncio.Future[None]
    places: int


class Shares:
    """Places for work: a bound for all, a share for each source, and an end to waiting.

    A place that becomes free goes to the sources in turn, so that whoever asks rarely waits for one piece of work of
    each other source, not for all of a source that asks often. When the queue is full, the newest of the source that
    waits most often gives way to one that waits less.

    It belongs to one event loop.

    Args:
        what: what the places are for, as a refusal names it: "password checks".

    Attributes:
        working: places that are held.
        waiting: how many wait for a place.
    """

    def __init__(self, bounds: Bounds, what: str) -> None:
        self._bounds = bounds
        self._what = what
        self._held: dict[str, int] = {}
        self.working = 0
        # Sources that wait, the one whose turn it is first.
        self._queues: OrderedDict[str, deque[_Turn]] = OrderedDict()
        self.waiting = 0

    @contextlib.asynccontextmanager
    async def hold(self, source: str) -> AsyncIterator[None]:
        """Hold a place; waits for one if need be.

        Args:
            source: who asks, as ``source_of`` says it, or a user.

        Raises:
            TooManyRequests: the source's own share of the queue is full.
            Unavailable: the queue is full, or nothing became free in time.
        """
        await self.take(source)
        try:
            yield
        finally:
            self.give_back(source)

    async def take(self, source: str, places: int = 1) -> int:
        """Take places that are given back elsewhere; otherwise like `hold`.

        Returns:
            How many were taken: what is larger than a source's share is content with all of it.
        """
        places = min(places, self._bounds.each, self._bounds.total)
        if not self._free(source, places):
            await self._queue(source, places)
        else:
            self._count(source, places)
        return places

    @contextlib.contextmanager
    def hold_now(self, source: str) -> Iterator[None]:
        """Hold a place without waiting.

        Raises:
            TooManyRequests: the source holds its share.
            Unavailable: all places are held.
        """
        self.take_now(source)
        try:
            yield
        finally:
            self.give_back(source)

    def take_now(self, source: str) -> None:
        """Take a place that is given back elsewhere; otherwise like `hold_now`."""
        if not self._free(source):
            raise self._refusal(source)
        self._count(source)

    def _free(self, source: str, places: int = 1) -> bool:
        within = self._held.get(source, 0) + places <= self._bounds.each
        return within and self.working + places <= self._bounds.total

    def _count(self, source: str, places: int = 1) -> None:
        self.working += places
        self._held[source] = self._held.get(source, 0) + places

    def give_back(self, source: str, places: int = 1) -> None:
        """Give places back that `take` has taken."""
        self.working -= places
        self._held[source] -= places
        if not self._held[source]:
            del self._held[source]
        if self._queues:
            self._next()

    def _next(self) -> None:
        """Give what is free to the first sources in the queue that have not got their shares."""
        while True:
            fitting = (source for source, queue in self._queues.items() if self._free(source, queue[0].places))
            if (source := next(fitting, None)) is None:
                return
            turn = self._queues[source][0]
            self._leave(source, turn)
            if source in self._queues:
                self._queues.move_to_end(source)
            if not turn.come.done():  # it is when its task was cancelled a moment ago
                self._count(source, turn.places)
                turn.come.set_result(None)

    async def _queue(self, source: str, places: int) -> None:
        self._make_room(source)
        turn = _Turn(asyncio.get_running_loop().create_future(), places)
        self._queues.setdefault(source, deque()).append(turn)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._bounds.patience):
                await turn.come
        except BaseException as error:
            self._gone(source, turn)
            if isinstance(error, TimeoutError):
                raise self._busy() from None
            raise

    def _gone(self, source: str, turn: _Turn) -> None:
        """Clean up after one that no longer waits, which may have been given a place in the same moment."""
        come = turn.come
        if come.done() and not come.cancelled() and come.exception() is None:
            self.give_back(source, turn.places)
        elif source in self._queues and turn in self._queues[source]:
            self._leave(source, turn)
            self._next()

    def _leave(self, source: str, turn: _Turn) -> None:
        queue = self._queues[source]
        queue.remove(turn)
        self.waiting -= 1
        if not queue:
            del self._queues[source]

    def _make_room(self, source: str) -> None:
        own = len(self._queues.get(source, ()))
        if own >= self._bounds.waiting_each:
            raise self._refusal(source)
        if self.waiting < self._bounds.waiting:
            return
        longest = max(self._queues, key=lambda each: len(self._queues[each]), default="")
        if not longest or len(self._queues[longest]) <= own + 1:
            raise self._busy()
        newest = self._queues[longest][-1]
        self._leave(longest, newest)
        if not newest.come.done():
            newest.come.set_exception(self._too_many())

    def _refusal(self, source: str) -> OciError:
        """The source's own doing, or that of all."""
        waits = len(self._queues.get(source, ()))
        own = self._held.get(source, 0) >= self._bounds.each or 0 < self._bounds.waiting_each <= waits
        return self._too_many() if own else self._busy()

    def _too_many(self) -> TooManyRequests:
        return TooManyRequests(
            f"too many {self._what} of yours are under way; try again when one has ended", retry_after=_RETRY_SECONDS
        )

    def _busy(self) -> Unavailable:
        return Unavailable(f"too many {self._what} are under way here; try again in a moment")
