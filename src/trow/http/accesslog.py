"""One line for each request, written beside the event loop so that a slow reader of the log delays no request."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

from trow.http.request import LONGEST_PATH
from trow.lib.logs import text_line, text_value
from trow.lib.terminal import escaped_bytes

if TYPE_CHECKING:
    from trow.http.request import Request
    from trow.lib.logs import Output

# Lines are handed over in batches: waking a thread for each would cost more than formatting it.
_FLUSH_SECONDS: Final = 0.1
_LONGEST_REASON: Final = 1024
# HTTP lets clients make up methods of any length.
_LONGEST_METHOD: Final = 32


class _Line(msgspec.Struct, gc=False, omit_defaults=True):
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
    reason: str = ""


class AccessLog:
    """Logs requests. Made and used on one event loop."""

    def __init__(self, output: Output) -> None:
        self._output = output
        encode = msgspec.json.Encoder().encode
        self._format = self._text if output.text else lambda line: escaped_bytes(encode(line))
        self._lines: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def request(self, request: Request, status: int, sent: int, seconds: float) -> None:
        """Log an answered request."""
        if not self._lines:
            self._loop.call_later(_FLUSH_SECONDS, self.flush)
        line = _Line(
            time.time(), "info", "request", request.number, request.client, request.identity.name,
            request.method[:_LONGEST_METHOD],
            request.path[:LONGEST_PATH], status, request.received, sent, seconds, request.refusal[:_LONGEST_REASON],
        )  # fmt: skip
        self._lines.append(self._format(line))

    def flush(self) -> None:
        """Hand over what waits."""
        lines, self._lines = self._lines, []
        if lines:
            self._output.lines.put(b"\n".join([*lines, b""]), len(lines), bulk=True)

    def _text(self, line: _Line) -> bytes:
        message = f"{line.method} {text_value(line.path)} {line.status}"
        fields = {
            "client": line.client,
            "user": line.user or "-",
            "seconds": line.seconds,
            "received": line.received,
            "sent": line.sent,
            "request": line.request,
        }
        if line.reason:
            fields["reason"] = line.reason
        return text_line(line.time, line.level, message, fields, colours=self._output.colours).encode(
            "utf-8", "backslashreplace"
        )
