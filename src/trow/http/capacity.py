"""How many clients there is room for: as the settings say, else as the machine allows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from trow.lib.machine import memory_limit, most_files
from trow.lib.shares import Bounds

if TYPE_CHECKING:
    from trow.config import Config

_MOST_CONNECTIONS: Final = 10_000
# What an idle connection keeps with TLS (measured: 32 KB, without 22 KB).
_CONNECTION_BYTES: Final = 32 * 1024
# For what is sent or received over connections; where files are few, one for each connection.
_FILES_IN_USE: Final = 4_000
# For the database, logs, blobs and uploads, and what the parts beside the ordinary listeners need.
_RESERVED_FILES: Final = 512
# One file in this many is for uploads between requests.
_OF_SESSIONS: Final = 32
# A listener that ends TLS itself has a connection for this many files. Each takes three files, there may be a quarter
# more, and two that are about to come.
MOST_TLS_CONNECTIONS: Final = 1_000
_OF_TLS_CONNECTIONS: Final = 32
_TLS_CONNECTION_FILES: Final = 6
_LEAST_CONNECTIONS: Final = 16
# What a connection may buffer of a push, and of an answer. 1 MiB makes a push a twentieth faster, and 64 of them take
# 100 MB more.
RECEIVE_BUFFER: Final = 640 * 1024
# What an answer takes whose client does not read: that, and the next piece of the file.
DOWNLOAD_BYTES: Final = RECEIVE_BUFFER + 128 * 1024
_SEND_MEMORY: Final = 48 * 2**20
# Threads that begin only when they are needed.
_MOST_STREAMS: Final = 128
# A quarter of the places is never one source's alone.
_SHARE: Final = 0.75
# Requests under way, of which HTTP/2 has 32 over a connection. One takes 40 KB (measured), and what has come of its
# body.
MOST_REQUESTS: Final = 4096
_LEAST_REQUESTS: Final = 256
_REQUEST_BYTES: Final = 64 * 1024
# What waits for a place takes little; a proxy would give up after a minute.
_WAITING: Final = 1_000
_PATIENCE_SECONDS: Final = 50.0
# Beyond the limit connections are still taken, until one that is idle has ended for each: this many more, as a part of
# the limit and beside it.
_MARGIN: Final = 0.25
_MARGIN_BESIDE: Final = 64
# No more of them than this part have requests under way, so that some are idle and can end for those who come.
_AT_WORK: Final = 0.875


@dataclass(frozen=True, slots=True)
class Capacity:
    """Room for clients.

    Attributes:
        connections: how many may be connected at a time.
        each: how many of them from one source.
        downloads: answers of more than 64 KiB that may be on their way at a time.
        requests: how many may be under way at a time.
        sessions: uploads that may keep a file open between requests.
        tls_connections: connections to each listener that ends TLS itself, for client certificates and for webhooks.
    """

    connections: int
    each: int
    downloads: int
    requests: int = MOST_REQUESTS
    sessions: int = 0
    tls_connections: int = MOST_TLS_CONNECTIONS

    @property
    def accepted(self) -> int:
        """How many connections an address takes before it leaves the next to the kernel."""
        return int(self.connections * (1 + _MARGIN)) + min(_MARGIN_BESIDE, self.connections)

    @property
    def places(self) -> Bounds:
        """The bounds of downloads, and of those that wait for one."""
        each = max(1, int(self.downloads * _SHARE))
        return Bounds(self.downloads, each, _WAITING, int(_WAITING * _SHARE), _PATIENCE_SECONDS)

    @property
    def streams(self) -> int:
        """How many threads a listener has that may wait for a store while they send what comes from it."""
        return min(self.downloads, _MOST_STREAMS)

    @property
    def work(self) -> Bounds:
        """The bounds of requests under way, none of which waits for a place."""
        return Bounds(self.requests, self.requests // 2, 0, 0, 0)


def capacity_of(config: Config) -> Capacity:
    """The room that there is with these settings on this machine."""
    limits = config.limits
    tls_connections = min(MOST_TLS_CONNECTIONS, most_files() // _OF_TLS_CONNECTIONS)
    own = (config.listen.client_tls is not None) + (config.admission.bind is not None)
    free = most_files() - min(_RESERVED_FILES, most_files() // 4) - own * tls_connections * _TLS_CONNECTION_FILES
    connections = limits.max_connections or _affordable(free, memory_limit())
    each = min(limits.max_connections_per_source or connections // 2, connections)
    # As many as take a quarter of the memory, and leave connections, and files, for those who come.
    memory = memory_limit()
    by_memory = MOST_REQUESTS if memory is None else max(_LEAST_REQUESTS, memory // 4 // _REQUEST_BYTES)
    requests = max(2, min(MOST_REQUESTS, by_memory, int(connections * _AT_WORK)))
    without = Capacity(connections, each, 0, requests, tls_connections=tls_connections)
    # Each has a file, for longer than its request.
    left = max(free // 8, free - without.accepted - requests)
    send_memory = limits.send_memory or max(_SEND_MEMORY, (memory or 0) // 4)
    sessions = most_files() // _OF_SESSIONS
    return replace(without, downloads=max(2, min(send_memory // DOWNLOAD_BYTES, left)), sessions=sessions)


def _affordable(free: int, memory: int | None) -> int:
    """A number that leaves some of these files for everything else, and half of the memory."""
    accepted = free - min(_FILES_IN_USE, free // 2)
    few = accepted / (2 + _MARGIN)
    by_files = int(few if few < _MARGIN_BESIDE else (accepted - _MARGIN_BESIDE) / (1 + _MARGIN))
    by_memory = _MOST_CONNECTIONS if memory is None else memory // 2 // _CONNECTION_BYTES
    return max(_LEAST_CONNECTIONS, min(_MOST_CONNECTIONS, by_files, by_memory))
