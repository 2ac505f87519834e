"""What the kernel knows of the connections of this process, and how one is ended (Linux, tcp(7)).

The HTTP server accepts connections, reads and writes in threads of its own and tells of none of it. The kernel does
tell: every descriptor of this process can be asked what has come and gone over it (``TCP_INFO``). What it says is read
straight from the descriptor, which may be closed and be another connection's in the next moment; so each answer comes
with the cookie of the socket, which no other socket ever has (``SO_COOKIE``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DESCRIPTORS: Final = "/proc/self/fd"
_SO_COOKIE: Final = 57  # asm-generic/socket.h
_COOKIE_BYTES: Final = 8
# struct tcp_info of linux/tcp.h, up to tcpi_notsent_bytes (Linux 4.6): segments in flight and the times in milliseconds
# since data was last received, then bytes taken by the peer, bytes received from it, and bytes that wait to be sent.
_INFO: Final = struct.Struct("=24xI24xI64xQQ8xI")
# The thread that looks gives the event loop its turn after this many descriptors, every half millisecond.
_TURN: Final = 64
SocketAddress: TypeAlias = "tuple[str, int] | tuple[str, int, int, int]"
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Socket:
    """One socket of this process, by its descriptor and by what only it has."""

    descriptor: int
    cookie: bytes


@dataclass(frozen=True, slots=True)
class State:
    """What has come and gone over a connection.

    Attributes:
        received: bytes that came from the peer.
        quiet: seconds since some came, or since the connection began.
        acked: bytes that the peer has taken.
        pending: whether there are bytes that it has not taken yet.
    """

    received: int
    quiet: float
    acked: int
    pending: bool


def supported() -> bool:
    """Whether this system tells what connections do."""
    try:
        with socket.socket() as probe:
            return len(_cookie(probe) + _info(probe)) == _COOKIE_BYTES + _INFO.size and os.path.isdir(_DESCRIPTORS)  # noqa: PTH112
    except (OSError, AttributeError):
        return False


def all_sockets() -> Iterator[tuple[Socket, socket.socket]]:
    """Every socket of this process, with an object to ask it; the object is good until the next one is asked for."""
    for number, descriptor in enumerate(_descriptors()):
        if number % _TURN == _TURN - 1:
            time.sleep(0)
        try:
            borrowed = _borrow(descriptor)
        except OSError:  # a file
            continue
        try:
            yield Socket(descriptor, _cookie(borrowed)), borrowed
        except OSError:  # closed in this moment
            continue
        finally:
            borrowed.detach()


def _descriptors() -> Iterable[int]:
    try:
        return [int(name) for name in os.listdir(_DESCRIPTORS)]  # noqa: PTH208 - a path each would take twice the time
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])  # all are in use, so none is left to list them


def ends_of(found: Socket) -> tuple[int, str] | None:
    """The port at this end, and the address and port at the other as the HTTP server writes them.

    None for what is not a TCP connection, or has ended.
    """
    with contextlib.suppress(OSError):  # it listens, or has ended
        # The family decides how long an address is, so the socket is asked for it.
        borrowed = socket.socket(fileno=found.descriptor)
        try:
            if borrowed.family in (socket.AF_INET, socket.AF_INET6):
                port, peer = borrowed.getsockname()[1], written(borrowed.getpeername())
                return (port, peer) if _cookie(borrowed) == found.cookie else None
        finally:
            borrowed.detach()
    return None


def written(address: SocketAddress) -> str:
    """An address as Rust's standard library writes it."""
    if len(address) == 2:  # noqa: PLR2004 - IPv4
        return f"{address[0]}:{address[1]}"
    host, port, _, scope = address
    return f"[{host.partition('%')[0]}{f'%{scope}' if scope else ''}]:{port}"


def state_of(borrowed: socket.socket) -> State:
    """Raises OSError for what is not a TCP connection."""
    unacked, quiet, acked, received, unsent = _INFO.unpack(_info(borrowed))
    return State(received, quiet / 1000, acked, bool(unacked or unsent))


def state_now(found: Socket) -> State | None:
    """The state of a connection now; None when it has ended."""
    with contextlib.suppress(OSError):
        borrowed = _borrow(found.descriptor)
        try:
            state = state_of(borrowed)
            return state if _cookie(borrowed) == found.cookie else None
        finally:
            borrowed.detach()
    return None


class ConnectionCloser:
    """Ends connections, also when no descriptor is left: it has one of its own from the start.

    Whose a descriptor is cannot change between the question and the end, when it is a duplicate.
    """

    def __init__(self) -> None:
        self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._held = os.dup(self._nothing)

    def end(self, found: Socket, *, politely: bool) -> bool:
        """End a connection; False when it has ended already.

        Args:
            found: which one.
            politely: what is under way still arrives. Otherwise the peer gets a reset, and what waits for it goes.
        """
        try:
            os.dup2(found.descriptor, self._held, inheritable=False)
            held = _borrow(self._held)
            try:
                if _cookie(held) != found.cookie:
                    return False
                if not politely:
                    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                held.shutdown(socket.SHUT_RDWR)
                return True
            finally:
                held.detach()
        except OSError:
            return False
        finally:
            os.dup2(self._nothing, self._held, inheritable=False)

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._held)
        os.close(self._nothing)


def _borrow(descriptor: int) -> socket.socket:
    """An object for a descriptor that belongs to somebody else: it has to be detached in the end.

    Raises:
        OSError: it is not a socket.
    """
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)


def _cookie(asked: socket.socket) -> bytes:
    return asked.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, _COOKIE_BYTES)


def _info(asked: socket.socket) -> bytes:
    return asked.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
