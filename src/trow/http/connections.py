"""The connections of clients, as requests know them, and places for large answers.

The event loop alone changes what is here. The monitor (`trow.http.connection_monitor`) reads it from a thread of its
own, and has what it finds out taken up on the loop.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from trow.lib import sockets
from trow.lib.shares import Shares
from trow.lib.source import source_of
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trow.lib.shares import Bounds

# Answers up to here need no place: the kernel keeps them for a client that does not read.
SMALL: Final = 64 * 1024
# Over HTTP/2 a client has many answers coming at a time, and takes none of them if it likes.
_MOST_UNTAKEN: Final = 4 * SMALL
# What was taken is not known before the kernel's name of the connection is.
_TO_BE_FOUND: Final = SMALL
# Large answers that are ended in one look, of all that there may be.
_PART: Final = 16


@dataclass(slots=True)
class _Download:
    """A large answer over HTTP/2 that is on its way: bytes that are left of it, and the places it holds."""

    left: int
    places: int


@dataclass(slots=True, eq=False)
class Activity:
    """What a connection is doing.

    Attributes:
        running: requests that are being answered.
        requests: how many there were.
        last: when one last began or was answered, on the monotonic clock.
        http2: whether it speaks HTTP/2.
        unacked: bytes of answers that the client is not known to have taken.
        base: bytes that the client had taken over the connection when this was found out.
        small: the unacked bytes of answers without a place.
        downloads: over HTTP/2, the answers that have places, in the order in which they were sent.
        places: how many its large answers hold.
        source: whose places these are.
        socket: where the monitor has found it.
    """

    running: int = 0
    requests: int = 0
    last: float = 0.0
    http2: bool = False
    unacked: int = 0
    base: int = 0
    small: int = 0
    downloads: deque[_Download] = field(default_factory=deque)
    places: int = 0
    source: str = ""
    socket: sockets.Socket | None = None


class Connections:
    """The connections of clients, by address and port as the server gives them.

    Args:
        large: places for large answers, each of which takes memory until its client has taken it.
        place: bytes of memory that a place accounts for.
        requests: how many may be under way. HTTP/2 has many over one connection.

    Attributes:
        wake: has the monitor look soon.
        watched: whether the monitor sees what clients take. Where it cannot, nothing is counted, because
            nothing would be given back.
        over: sources that have too many connections, all of which are in use.
    """

    def __init__(
        self, large: Bounds, place: int, requests: Bounds, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._large = Shares(large, "downloads")
        self._place = place
        self._requests = Shares(requests, "requests")
        self._enough = large.total // 2
        self._a_few = max(1, large.total // _PART)
        self.wake: Callable[[], None] = lambda: None
        self.watched = True
        self.over: frozenset[str] = frozenset()
        self._clock = clock
        self._activities: dict[str, Activity] = {}

    def begin(self, name: str, *, http2: bool) -> Activity:
        """A request has come."""
        activity = self._activities.get(name)
        if activity is None:
            activity = Activity()
            if self.watched:
                self._activities[name] = activity
        activity.running += 1
        activity.requests += 1
        activity.http2 = http2
        activity.last = self._clock()
        return activity

    def end(self, activity: Activity) -> None:
        """It has been answered; the answer may still be on its way."""
        activity.running -= 1
        activity.last = self._clock()

    def check(self, activity: Activity, client: str) -> None:
        """Let a connection's first request in.

        Raises:
            Unavailable: there are too many connections, and none to end instead.
        """
        if self.over and activity.requests == 1 and source_of(client) in self.over:
            raise Unavailable("too many clients are connected; try again in a moment")

    def enter(self, client: str) -> None:
        """Have a request of this client under way, until `leave`.

        Raises:
            TooManyRequests, Unavailable: there are too many, and nothing is read of it.
        """
        self._requests.take_now(source_of(client))

    def leave(self, client: str) -> None:
        """The request has ended."""
        self._requests.give_back(source_of(client))

    def get(self, name: str) -> Activity | None:
        """What a connection is doing; None where no request came."""
        return self._activities.get(name)

    def names(self) -> list[str]:
        """All that have had a request."""
        return list(self._activities)

    async def reserve(self, activity: Activity, client: str, size: int, *, memory: bool) -> None:
        """An answer of this many bytes is about to be sent; wait for places where it is large.

        Args:
            activity: over which connection.
            client: the address that it goes to.
            size: its bytes.
            memory: whether all of it is in memory; a file is read as it is taken.

        Raises:
            TooManyRequests, Unavailable: there was no place in time.
        """
        if not self.watched:
            return
        large = size > SMALL
        if large or (activity.http2 and activity.small + size > _MOST_UNTAKEN):
            state = sockets.state_now(activity.socket) if activity.socket is not None else None
            if state is not None:  # what the client has taken meanwhile
                self._acknowledge(activity, state, done=is_done(activity, state))
            large = large or activity.small + size > _MOST_UNTAKEN
        if large:
            await self._take(activity, source_of(client), size, -(-size // self._place) if memory else 1)
        elif activity.http2:
            activity.small += size
            if activity.socket is None and activity.small > _TO_BE_FOUND:
                self.wake()
        if large or activity.http2:
            activity.unacked += size

    @property
    def crowded(self) -> bool:
        """Whether places for large answers become few."""
        return self._large.working > self._enough or bool(self._large.waiting)

    @property
    def surplus(self) -> int:
        """How many large answers have to end, or to be taken, so that enough places are free.

        Never many at a time: what they held is free some moments later, when those that wait take it again.
        """
        return min(self._a_few, max(0, self._large.working - self._enough) + self._large.waiting)

    @property
    def downloads(self) -> int:
        """Places that are held by large answers on their way."""
        return self._large.working

    async def _take(self, activity: Activity, source: str, size: int, places: int) -> None:
        if not activity.http2:
            # One answer comes after the other, so what it holds for the last one it holds for this one, too.
            places -= activity.places
        if places <= 0:
            return
        if self.crowded:
            self.wake()
        activity.source = activity.source or source
        taken = await self._large.take(activity.source, places)
        activity.places += taken
        if activity.http2:
            activity.downloads.append(_Download(size, taken))

    def update(self, seen: Iterable[tuple[Activity, sockets.State]], gone: Iterable[str], looked: float) -> None:
        """Take up what the monitor has found.

        Args:
            seen: connections with unacked bytes, and their state.
            gone: connections that have ended.
            looked: when the monitor began to look.
        """
        for activity, state in seen:
            done = not activity.running and activity.last < looked and is_done(activity, state)
            self._acknowledge(activity, state, done=done)
        for name in gone:
            left = self._activities.get(name)
            # It may be forgotten already: the monitor has looked twice before the loop had its turn.
            if left is not None and not left.running and left.last < looked:
                self._release(left, 0)
                del self._activities[name]

    def _acknowledge(self, activity: Activity, state: sockets.State, *, done: bool) -> None:
        """Count what the client has taken, of the answer that was sent first before the others.

        Nothing tells to which answer bytes over HTTP/2 belong. Whoever takes one and leaves another can so have answers
        without a place, of as many bytes as it has taken, and as many as there may be streams.
        """
        if done:
            self._release(activity, state.acked)
            return
        taken = state.acked - activity.base
        if taken <= 0:
            return
        activity.base = state.acked
        activity.unacked = max(0, activity.unacked - taken)
        activity.small = max(0, activity.small - taken)
        while activity.downloads and taken >= activity.downloads[0].left:
            first = activity.downloads.popleft()
            taken -= first.left
            activity.places -= first.places
            self._large.give_back(activity.source, first.places)
        if activity.downloads:
            activity.downloads[0].left -= taken

    def _release(self, activity: Activity, acked: int) -> None:
        activity.unacked, activity.small, activity.base = 0, 0, acked
        activity.downloads.clear()
        if activity.places:
            self._large.give_back(activity.source, activity.places)
        activity.places, activity.source = 0, ""


def is_done(activity: Activity, state: sockets.State) -> bool:
    """Whether the client has taken all that was sent."""
    return not state.pending and state.acked - activity.base >= activity.unacked
