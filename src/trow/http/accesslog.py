"""One JSON line for each request, written beside the event loop so that a slow reader of the log delays nobody."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

if TYPE_CHECKING:
    from trow.http.request import Request

# When the reader of the log is slower than this many lines, lines are dropped and counted rather than memory filled.
_MOST_WAITING: Final = 100_000


class _Line(msgspec.Struct, gc=False):
    time: float
    level: str
    event: str
    client: str
    user: str
    method: str
    path: str
    status: int
    received: int
    sent: int
    seconds: float


class AccessLog:
    """Writes the lines to ``stream``."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._encode = msgspec.json.Encoder().encode
        self._lines: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="trow-access-log", daemon=True)
        self._thread.start()

    def request(self, request: Request, status: int, sent: int, seconds: float) -> None:
        """Note an answered request."""
        if self._lines.qsize() >= _MOST_WAITING:
            return
        self._lines.put(
            _Line(
                time.time(),
                "info",
                "request",
                request.client,
                request.identity.name,
                request.method,
                request.path,
                status,
                request.received,
                sent,
                round(seconds, 6),
            )
        )

    def close(self) -> None:
        """Write what waits."""
        self._lines.put(None)
        self._thread.join(timeout=5)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            output = bytearray(self._encode(line))
            output += b"\n"
            output += self._waiting()
            self._stream.write(output)
            self._stream.flush()

    def _waiting(self) -> bytes:
        """What else is there, so that a busy server writes many lines at once."""
        lines = []
        for _ in range(min(self._lines.qsize(), 1000)):
            line = self._lines.get()
            if line is None:
                self._lines.put(None)
                break
            lines.append(self._encode(line))
        return b"\n".join([*lines, b""]) if lines else b""
