"""The HTTP server: granian's embedded one, in this process and on this event loop, some for each address.

Receiving, TLS and sending files happen in its own threads; Python sees parsed requests. Renewed certificates are taken
up by a second server on the same listening socket that takes over before the first one ends its requests and goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.net import SocketHolder, SocketSpec  # type: ignore[attr-defined]
from granian.server.embed import Server as Granian

from trow.http.capacity import RECEIVE_BUFFER
from trow.lib.file_watch import FileChanges

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from trow.http.dispatch import Dispatcher
    from trow.tls.files import TlsFiles
    from trow.tls.inner_socket import InnerSocket

log = logging.getLogger(__name__)

# Connections that the kernel keeps until they are taken; it may keep fewer (net.core.somaxconn).
_BACKLOG: Final = 4096
_CONNECTIONS: Final = 1024
# Listeners of one address, each with its own threads; the kernel spreads connections over them.
_MOST_LISTENERS: Final = 4
# Threads that read the files being sent. The default, 512, spends a tenth more processor time on waking them up.
FILE_THREADS: Final = 2
# Clients written in Go send HTTP/2 frames as large as they may be. Each one is handed from thread to thread, so with
# the least size (RFC 9113, section 4.2: 16 KiB) a push takes six times as long. An unfinished one is kept in memory.
_FRAME: Final = 256 * 1024
# Answers of a connection at a time over HTTP/2, and what it keeps of each that is not taken. A client that wants more
# at a time opens another connection, as clients in Go do by themselves.
_STREAMS: Final = 32
_SEND_BUFFER: Final = 128 * 1024
_HEADER_SECONDS: Final = 30
# Generations of listeners whose last requests are still being answered; each has some threads.
MOST_OLD: Final = 4
# Its errors go where all our lines go.
_GRANIAN_LOGS: Final = {"handlers": {}, "loggers": {"_granian": {"handlers": [], "propagate": True}}}


_FIXES: Final[Mapping[int | None, str]] = {
    errno.EADDRINUSE: "stop the program that listens there, or give another address",
    errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE; give another address",
}


class ListenError(Exception):
    """An address cannot be listened on; the message says which and why."""


class _NotOnThisMachine(ListenError):
    """The address belongs to another machine, or to a protocol that this one lacks."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address to listen on, reserved by a bound socket that never listens itself."""

    host: str
    port: int
    reservation: socket.socket

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def target(self) -> tuple[socket.AddressFamily, tuple[str, int]]:
        """Where to connect to."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        return family, (reachable, self.port)


@dataclass(frozen=True, slots=True)
class InnerAddress:
    """Where the server behind our own listeners is."""

    inner: InnerSocket

    def __str__(self) -> str:
        return str(self.inner)

    @property
    def target(self) -> tuple[socket.AddressFamily, str]:
        """Where to connect to."""
        return socket.AF_UNIX, str(self.inner.path)


def reserve(host: str, port: int, setting: str) -> list[Address]:
    """Turn a host name or address into addresses, and hold their ports; port 0 lets the kernel choose one for all.

    Args:
        host: name or address.
        port: of all of them.
        setting: where a person can give another one.

    Raises:
        ListenError: the name has no address, or a port is taken or forbidden.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        what = f"{host} has no address to listen on ({error.strerror})"
        raise ListenError(f"{what}; write an address of this machine ({setting})") from None
    addresses: list[Address] = []
    for ip in dict.fromkeys(str(entry[4][0]) for entry in found):
        wanted = port or (addresses[0].port if addresses else 0)
        with contextlib.suppress(_NotOnThisMachine):
            # The server shares its port with its own next listener, so one that another program has is refused here.
            if wanted:
                _bind(ip, wanted, setting, shared=False).close()
            holder = _bind(ip, wanted, setting, shared=True)
            addresses.append(Address(ip, holder.getsockname()[1], holder))
    if not addresses:
        raise ListenError(f"{host} is not an address of this machine; write one that is ({setting})")
    return addresses


def _bind(ip: str, port: int, setting: str, *, shared: bool) -> socket.socket:
    holder = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((ip, port))
    except OSError as error:
        holder.close()
        kind = _NotOnThisMachine if error.errno == errno.EADDRNOTAVAIL else ListenError
        fix = _FIXES.get(error.errno, "give another address")
        raise kind(f"cannot listen on {ip} port {port}: {error.strerror}; {fix} ({setting})") from None
    return holder


@dataclass(frozen=True, slots=True)
class _Listener:
    """A server on one address, and the task that runs it."""

    address: Address | InnerAddress
    server: _Server
    serving: asyncio.Task[None]


class _Server(Granian):
    """A server that takes connections from a listening socket of ours, where it is given one.

    The next server takes them from the same one: what waits there when the first goes is not lost, as it would be with
    a socket that is closed (connections in the queue of a listening socket are reset with it).
    """

    listening: socket.socket | None = None
    _descriptor: int

    def _init_shared_socket(self) -> None:
        if self.listening is None:
            super()._init_shared_socket()  # type: ignore[no-untyped-call]
            return
        self._descriptor = os.dup(self.listening.fileno())
        holder = SocketHolder(self._descriptor, False, _BACKLOG)  # type: ignore[call-arg]
        self._ssp, self._shd = None, holder  # type: ignore[assignment]

    def stop_accepting(self) -> None:
        """Take no more connections, and go on serving those that are open; `stop` ends them before they have asked.

        It goes on listening, by the same descriptor, at a socket that no client knows.
        """
        if self.listening is not None:
            with socket.create_server(("127.0.0.1", 0)) as nowhere:
                nowhere.setblocking(False)
                os.dup2(nowhere.fileno(), self._descriptor, inheritable=False)


class _PinnedApplication:
    """The application as one listener sees it: the listener's threads begin on one processor core and stay there.

    A file is sent by two threads in turn, one that reads and one that sends. On two cores they wake each other across
    them for every 128 KiB, which takes as long as the work: one stream of a large blob comes a fifth faster like this.
    """

    def __init__(self, application: Dispatcher, core: int | None, cores: Collection[int]) -> None:
        self._core = core
        self._cores = cores
        self.__rsgi__ = application.__rsgi__

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called right before the listener starts its threads, which take over on which cores this one may run."""
        if self._core is not None:
            os.sched_setaffinity(0, {self._core})
            loop.call_soon(os.sched_setaffinity, 0, self._cores)


class HttpServer:
    """Serves an application on some addresses until it is told to stop.

    Args:
        connections: how many each address takes; the kernel keeps the next ones waiting.
        idle_seconds: how long a connection may take for the next request's headers, its silence before them included.
        header_seconds: how long a connection that an old listener has accepted may take until its request has come.
        file_threads: how many each listener has to read what it sends. A stream takes one while its store is slower
            than its client.
    """

    def __init__(
        self,
        application: Dispatcher,
        addresses: Sequence[Address | InnerAddress],
        tls: TlsFiles | None,
        *,
        connections: int = _CONNECTIONS,
        idle_seconds: float = _HEADER_SECONDS,
        header_seconds: float = _HEADER_SECONDS,
        file_threads: int = FILE_THREADS,
    ) -> None:
        self._application = application
        self._addresses = addresses
        self._tls = tls
        self._connections = connections
        self._idle_seconds = idle_seconds
        self._header_seconds = header_seconds
        self._changes: FileChanges | None = None
        self._file_threads = file_threads
        self._ending: set[asyncio.Task[None]] = set()
        # None where the system does not tell.
        self._cores = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()
        self._listeners: Sequence[_Listener] = ()
        self._newest: Sequence[_Listener] = ()
        self._sockets: dict[tuple[Address, int | None], socket.socket] = {}

    async def start(self) -> None:
        """Listen on all addresses; returns when connections are taken."""
        if self._tls is not None:
            self._changes = await FileChanges.since_now([self._tls.certificate, self._tls.key])
        self._listeners = self._newest = self._listen_everywhere()
        for listener in self._listeners:
            await _accepting(listener)

    def _listen_everywhere(self) -> list[_Listener]:
        cores: Sequence[int | None] = sorted(self._cores)[:_MOST_LISTENERS] or [None]
        listeners: list[_Listener] = []
        for address in self._addresses:
            # The kernel spreads connections over the listeners of a port, and a Unix socket has one only.
            shared = cores[:1] if isinstance(address, InnerAddress) else cores
            each = math.ceil(self._connections / len(shared))
            listeners += [self._listen(address, core, each) for core in shared]
        return listeners

    def _listen(self, address: Address | InnerAddress, core: int | None, connections: int) -> _Listener:
        path = address.inner.path if isinstance(address, InnerAddress) else None
        host, port = (address.host, address.port) if isinstance(address, Address) else ("", 0)
        server = _Server(
            _PinnedApplication(self._application, core, self._cores),
            address=host,
            port=port,
            uds=path,
            interface=Interfaces.RSGI,
            http=HTTPModes.auto,
            websockets=False,
            backlog=_BACKLOG,
            backpressure=connections,
            runtime_blocking_threads=self._file_threads,
            http1_settings=HTTP1Settings(
                header_read_timeout=math.ceil(self._idle_seconds * 1000), max_buffer_size=RECEIVE_BUFFER
            ),
            http2_settings=HTTP2Settings(
                adaptive_window=True,
                max_concurrent_streams=_STREAMS,
                max_frame_size=_FRAME,
                max_headers_size=64 * 1024,
                max_send_buffer_size=_SEND_BUFFER,
            ),
            log_level=LogLevels.error,
            log_dictconfig=_GRANIAN_LOGS,
            ssl_cert=self._tls.certificate if self._tls else None,
            ssl_key=self._tls.key if self._tls else None,
            ssl_protocol_min=SSLProtocols.tls12,
        )
        if isinstance(address, Address):
            # The socket of one listener and of those that come after it.
            if (address, core) not in self._sockets:
                built = SocketSpec(address.host, address.port, _BACKLOG).build()
                self._sockets[address, core] = socket.socket(fileno=built.get_fd())
            server.listening = self._sockets[address, core]
        return _Listener(address, server, asyncio.get_running_loop().create_task(server.serve()))

    async def renew(self) -> None:
        """Let listeners with the files as they are now take over; the old ones end when they have answered."""
        while len(self._ending) >= MOST_OLD:
            await asyncio.wait(self._ending, return_when=asyncio.FIRST_COMPLETED)
        old, fresh = self._newest, self._listen_everywhere()
        self._listeners = [*fresh, *self._listeners]
        for listener in fresh:
            await _accepting(listener)
        for listener in old:
            listener.server.stop_accepting()
        self._newest = fresh
        ending = asyncio.create_task(self._end(old))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _end(self, old: Sequence[_Listener]) -> None:
        """End old listeners, and with them connections that wait for a request."""
        await asyncio.sleep(self._header_seconds)
        await _stop(old)
        self._listeners = [listener for listener in self._listeners if listener not in old]

    async def watch_certificate(self) -> None:
        """Renew whenever the files have changed since the start, without end. Files that do not match are not used."""
        if self._changes is not None:
            await self._changes.follow(self.renew)

    async def stop(self, grace: float) -> bool:
        """Take no more connections and finish what is under way; False when that took longer than ``grace`` seconds."""
        for listening in self._sockets.values():
            listening.close()
        for ending in self._ending:
            ending.cancel()
        try:
            async with asyncio.timeout(grace):
                await _stop(self._listeners)
        except TimeoutError:
            return False
        return True


async def _stop(listeners: Sequence[_Listener]) -> None:
    for listener in listeners:
        listener.server.stop()  # type: ignore[no-untyped-call]
    await asyncio.gather(*(asyncio.shield(listener.serving) for listener in listeners))


async def _accepting(listener: _Listener) -> None:
    """Wait until the server takes connections: it listens from a thread of its own."""
    loop = asyncio.get_running_loop()
    serving, (family, target) = listener.serving, listener.address.target
    while not serving.done():
        with socket.socket(family) as probe:
            probe.setblocking(False)
            with contextlib.suppress(ConnectionError, FileNotFoundError):
                await loop.sock_connect(probe, target)
                return
        await asyncio.sleep(0.001)
    raise ListenError(f"cannot listen on {listener.address}: {serving.exception() or 'the server ended'}")
