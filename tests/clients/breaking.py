"""A way to a registry that breaks: connections end in the middle of what a client sends."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE: Final = 64 * 1024


class BreakingWay:
    """Relays connections to a registry, and breaks those that send a blob until it has broken enough of them.

    Attributes:
        host: where it listens.
        broken: how many it has broken.
    """

    def __init__(self, target: str, method: bytes, after: int, times: int) -> None:
        self._target = target
        self._method = method
        self._after = after
        self._times = times
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.broken = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[BreakingWay]:
        """Relay until the block ends."""
        accepting = threading.Thread(target=self._accept, daemon=True)
        accepting.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            accepting.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                name, _, port = self._target.rpartition(":")
                server = socket.create_connection((name, int(port)))
                threading.Thread(target=self._send, args=(client, server), daemon=True).start()
                threading.Thread(target=_copy, args=(server, client), daemon=True).start()

    def _send(self, client: socket.socket, server: socket.socket) -> None:
        """What the client sends, of a blob this many bytes at most while connections are to be broken."""
        sent = -1
        with contextlib.suppress(OSError), client, server:
            while piece := client.recv(_PIECE):
                if piece.startswith(self._method) and b"/blobs/uploads/" in piece.partition(b"\r\n")[0]:
                    sent = 0
                elif piece.startswith((b"GET ", b"HEAD ", b"POST ", b"PATCH ", b"PUT ", b"DELETE ")):
                    sent = -1
                if sent >= 0:
                    sent += len(piece)
                    if sent > self._after and self.broken < self._times:
                        self.broken += 1
                        server.shutdown(socket.SHUT_RDWR)
                        client.shutdown(socket.SHUT_RDWR)
                        return
                server.sendall(piece)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
