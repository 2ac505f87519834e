"""One JSON line for each request, written beside the event loop so that a slow reader of the log delays nobody."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

if TYPE_CHECKING:
    from trow.http.request import Request

# Lines are handed over in batches: waking a thread for each would cost more than wording it.
_FLUSH_SECONDS: Final = 0.1
# When the log's reader is slower than this many batches, lines are dropped rather than memory filled.
_MOST_WAITING: Final = 200


class _Line(msgspec.Struct, gc=False):
    time: float
    level: str
    event: str
    request: str
    client: str
    user: str
    method: str
    path: str
    status: int
    received: int
    sent: int
    seconds: float


class AccessLog:
    """Writes the lines to ``stream``. Made and used on one event loop."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._encode = msgspec.json.Encoder().encode
        self._lines: list[bytes] = []
        self._batches: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write, name="trow-access-log", daemon=True)
        self._thread.start()

    def request(self, request: Request, status: int, sent: int, seconds: float) -> None:
        """Note an answered request."""
        if not self._lines:
            self._loop.call_later(_FLUSH_SECONDS, self._flush)
        line = _Line(
            time.time(), "info", "request", request.number, request.client, request.identity.name, request.method,
            request.path, status, request.received, sent, seconds,
        )  # fmt: skip
        self._lines.append(self._encode(line))

    def close(self) -> None:
        """Write what waits."""
        self._flush()
        self._batches.put(None)
        self._thread.join(timeout=5)

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if lines and self._batches.qsize() < _MOST_WAITING:
            self._batches.put(lines)

    def _write(self) -> None:
        while (lines := self._batches.get()) is not None:
            lines.append(b"")
            # Lines that cannot be written (a full volume) are lost; the next ones may fare better.
            with contextlib.suppress(OSError):
                self._stream.write(b"\n".join(lines))
                self._stream.flush()
