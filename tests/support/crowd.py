"""Many clients at once, each on a bare socket of its own."""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

from support.wire import Wire, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_SECONDS: Final = 30
_TCP_CLOSE: Final = 7  # linux/tcp.h
HEALTH: Final = request("GET", "/healthz")


class Crowd:
    """Connections to one address, which end with the block.

    Args:
        host: HOST:PORT.
        source: the loopback address that all of them come from.
        receive_buffer: bytes that the kernel keeps for each, for those who never read.
    """

    def __init__(self, host: str, *, source: str = "127.0.0.1", receive_buffer: int | None = None) -> None:
        _take_all_files()
        name, _, port = host.rpartition(":")
        self._target = (name, int(port))
        self._source = source
        self._receive_buffer = receive_buffer
        self.members: list[socket.socket] = []

    def grow(self, count: int, said: bytes = b"") -> None:
        """Let more come, each of which says this."""
        for _ in range(count):
            member = socket.socket()
            self.members.append(member)
            member.settimeout(_SECONDS)
            if self._receive_buffer is not None:
                member.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            member.bind((self._source, 0))
            member.connect(self._target)
            member.sendall(said)

    def heard(self) -> None:
        """Wait until each has been told something."""
        for member in self.members:
            assert member.recv(65536)

    def ended(self) -> int:
        """How many connections the other end has ended."""
        return sum(map(has_ended, self.members))

    def closed(self) -> int:
        """The same of those who never read: what has come for them stays unread."""
        return sum(map(is_reset, self.members))

    def leave(self) -> None:
        """All end at once, without a word."""
        for member in self.members:
            with contextlib.suppress(OSError):
                member.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            member.close()
        self.members.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.leave()


def has_ended(member: socket.socket) -> bool:
    """Whether the other end has ended the connection; what it said before is read away."""
    member.setblocking(False)
    try:
        while member.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        member.settimeout(_SECONDS)
    return True


def is_reset(member: socket.socket) -> bool:
    """Whether the other end has ended the connection in a hurry; what it said before stays unread."""
    return member.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0 or _state(member) == _TCP_CLOSE


def _state(member: socket.socket) -> int:
    return member.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def healthy(host: str) -> bool:
    """Whether somebody new is answered."""
    with Wire(host) as wire:
        return wire.ask("GET", "/healthz").status == 200


def _take_all_files() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def files_allowed(soft: int) -> Iterator[None]:
    """Processes started meanwhile may have so many files open, unless they ask for more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
