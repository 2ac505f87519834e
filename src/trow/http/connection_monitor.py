"""Looks after the connections of clients: ends those that break a rule, or that are too many.

The HTTP server times the headers of a request and nothing else. A client that connects and sends nothing, that opens
HTTP/2 and sends no request, or that requests a large blob and does not read it would stay forever, until there is no
room for others. So a thread looks once a second, and more often when it becomes crowded, at what the kernel knows of
each connection (`trow.lib.sockets`), and compares it with the requests under way (`trow.http.connections`).
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.http.connection_rules import Reason, WatchedConnection
from trow.lib import sockets
from trow.lib.source import source_of
from trow.lib.threads import start_thread

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from trow.http.connection_rules import ConnectionRules
    from trow.http.connections import Activity, Connections

log = logging.getLogger(__name__)

_SECONDS: Final = 1.0
_CROWDED_SECONDS: Final = 0.1
# Looking takes 5 µs a connection; it may take this share of a processor.
_SHARE: Final = 0.2
_CROWDED: Final = 0.9
# This many times fewer than others.
_FAR_FEWER: Final = 8
# A reader that stalls for so long goes when others wait.
_STALL_SECONDS: Final = 3.0


@dataclass(slots=True)
class ListenerGroup:
    """Listeners that share a limit.

    Attributes:
        ports: where they listen.
        connections: how many there may be in all.
        each: how many of one source.
        tls: whether the connections are TLS.
        rules: what is expected of connections.
        exempt: whether an address may have any number of connections.
        open: how many there were when the monitor last looked.
    """

    ports: Collection[int]
    connections: int
    each: int
    tls: bool
    rules: ConnectionRules
    exempt: Callable[[str], bool] = lambda _: False
    open: int = 0


class ConnectionMonitor:
    """The thread that looks.

    Attributes:
        ended: how many connections it has ended, by reason.
        left: how many connections have ended by themselves.
    """

    def __init__(self, connections: Connections) -> None:
        self.ended: Counter[str] = Counter({reason.value: 0 for reason in Reason})
        self.left = 0
        self._groups: list[ListenerGroup] = []
        self._connections = connections
        self._watched: dict[bytes, tuple[WatchedConnection, ListenerGroup] | None] = {}
        self._wake = threading.Event()
        self._flooded = False
        self._closer = sockets.ConnectionCloser()
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, group: ListenerGroup) -> None:
        """Look after the connections of further listeners."""
        self._groups.append(group)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to look.

        Raises:
            ThreadsError: there may be no further thread.
        """
        if not sockets.supported():
            log.warning("this system does not report what connections do; silent and stalled ones stay open")
            self._connections.watched = False
            return
        self._loop = loop
        self._connections.wake = self._wake.set
        start_thread(self._run, "trow-monitor")

    def wake(self) -> None:
        """Look now rather than at the next second."""
        self._wake.set()

    def stop(self) -> None:
        """Stop looking."""
        self._stopped = True
        self._wake.set()

    def count(self) -> int:
        """Connections that were open when it last looked."""
        return sum(group.open for group in self._groups)

    def _run(self) -> None:
        while not self._stopped:
            began = time.monotonic()
            try:
                self.look(began)
            except Exception:
                log.exception("connections could not be checked; trying again")
            took = time.monotonic() - began
            time.sleep(took / _SHARE - took)
            crowded = self._flooded or self._connections.crowded
            crowded = crowded or any(group.open > _CROWDED * group.connections for group in self._groups)
            self._wake.wait(_CROWDED_SECONDS if crowded else _SECONDS)
            self._wake.clear()
        self._closer.close()

    def look(self, now: float) -> None:
        """Look at every connection once."""
        names = self._connections.names()
        watched: dict[bytes, tuple[WatchedConnection, ListenerGroup] | None] = {}
        for found, asked in sockets.all_sockets():
            known = self._watched[found.cookie] if found.cookie in self._watched else self._new(found, now)
            if known is None or not self._has_to_end(found, asked, known, now):
                watched[found.cookie] = known
        self._watched = watched
        clients = [known for known in watched.values() if known is not None]
        members = [each for each, _ in clients]
        self._flooded = any(each.flooding for each in members)
        if surplus := self._connections.surplus:
            # Where places for large answers are few, the connections that have stalled for longest make room.
            holders = (each for each in members if (of := self._connections.get(each.name)) is not None and of.places)
            for each in _stalled(holders, surplus, now):
                self._end(each, Reason.STALLED)
        over: set[str] = set()
        for group in self._groups:
            own = [each for each, where in clients if where is group]
            group.open = len(own)
            over |= self._make_room(group, own, now)
        self._connections.over = frozenset(over)
        self._report(names, members, now)

    def _new(self, found: sockets.Socket, now: float) -> tuple[WatchedConnection, ListenerGroup] | None:
        """A connection seen for the first time; None if it is not a client's."""
        ends = sockets.ends_of(found)
        group = None if ends is None else next((each for each in self._groups if ends[0] in each.ports), None)
        if ends is None or group is None:
            return None
        address = ends[1].rpartition(":")[0].strip("[]")
        exempt = group.exempt(address)
        return WatchedConnection(found, ends[1], source_of(address), exempt=exempt, rules=group.rules, now=now), group

    def _has_to_end(
        self, found: sockets.Socket, asked: socket.socket, known: tuple[WatchedConnection, ListenerGroup], now: float
    ) -> bool:
        watched, group = known
        activity = self._connections.get(watched.name)
        if activity is not None:
            activity.socket = found
        try:
            state = sockets.state_of(asked)
        except OSError:  # it has ended in this moment
            return False
        reason = watched.judge(state, activity, group.rules, now, tls=group.tls)
        return reason is not None and self._end(watched, reason)

    def _end(self, watched: WatchedConnection, reason: Reason) -> bool:
        ended = self._closer.end(watched.socket, politely=reason is Reason.IDLE)
        self.ended[reason.value] += ended
        return ended

    def _make_room(self, group: ListenerGroup, members: Sequence[WatchedConnection], now: float) -> set[str]:
        """End idle connections where there are too many; the sources of which there are still too many.

        Where these are not enough, those go that have stalled for longest.
        """
        counts = Counter(each.source for each in members if not each.exempt)
        excess = len(members) - group.connections
        over = {source for source, count in counts.items() if count > group.each}
        if excess <= 0 and not over:
            return set()
        for each in self._surplus(group, members, counts, excess):
            if self._end(each, Reason.FULL):
                counts[each.source] -= 1
                excess -= 1
        excess -= sum(self._end(each, Reason.STALLED) for each in _stalled(members, excess, now))
        if excess > 0:
            return set(counts)
        return {source for source in over if counts[source] > group.each}

    def _surplus(
        self, group: ListenerGroup, members: Sequence[WatchedConnection], counts: Counter[str], excess: int
    ) -> Iterator[WatchedConnection]:
        """Idle ones of the source that has most: who never asked anything first, then who was silent longest.

        A source that has far fewer than others gives up none for them, although all of theirs may be in use.
        """
        ranked: dict[str, list[tuple[bool, float, int, WatchedConnection]]] = {}
        for number, each in enumerate(members):
            activity = self._connections.get(each.name)
            since = each.idle_since(activity)
            if since is not None:
                asked = activity is not None and activity.requests > 0
                ranked.setdefault(each.source, []).append((asked, since, number, each))
        queues = {source: sorted(idle, reverse=True) for source, idle in ranked.items()}
        few = max(counts.values(), default=0) / _FAR_FEWER
        sources = [(-counts[source], source) for source in queues if source not in counts or counts[source] >= few]
        heapq.heapify(sources)
        while sources and (excess > 0 or -sources[0][0] > group.each):
            most, source = heapq.heappop(sources)
            yield queues[source].pop()[-1]
            excess -= 1
            if queues[source]:
                heapq.heappush(sources, (most + 1, source))

    def _report(self, names: Iterable[str], members: Sequence[WatchedConnection], now: float) -> None:
        """Have what was found taken up on the event loop."""
        here = {each.name for each in members}
        gone = [name for name in names if name not in here]
        seen: list[tuple[Activity, sockets.State]] = []
        for each in members:
            activity, state = self._connections.get(each.name), each.state
            if activity is not None and activity.unacked and state is not None:
                seen.append((activity, state))
        self.left += len(gone)
        if self._loop is not None and (gone or seen):
            try:
                self._loop.call_soon_threadsafe(self._connections.update, seen, gone, now)
            except RuntimeError:  # the loop has ended
                self._stopped = True


def _stalled(members: Iterable[WatchedConnection], most: int, now: float) -> Sequence[WatchedConnection]:
    """Those that read their answers unreasonably slowly, the slowest first."""
    slow = [each for each in members if each.slow_for(now) > _STALL_SECONDS] if most > 0 else []
    return heapq.nlargest(most, slow, key=lambda each: each.slow_for(now))
