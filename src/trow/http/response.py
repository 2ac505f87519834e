"""Answers as values; `Response.send` gives them to the server."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from trow.http.connections import SMALL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from trow.http.request import Transport

Headers: TypeAlias = list[tuple[str, str]]

# The server opens at once what it is told to send, unless the client has left.
_OPENING_SECONDS: Final = 30.0


@dataclass(slots=True)
class Response:
    """An answer whose body, if any, is at hand."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.body)

    def send(self, transport: Transport, *, head: bool) -> None:
        """Hand it to the server; ``head`` leaves the body out and says how long it is (RFC 9110, section 9.3.2)."""
        if self.body and not head:
            transport.response_bytes(self.status, self.headers, self.body)
            return
        # Said here because HTTP/2 adds no length to an empty body.
        if self.status not in (204, 304):
            self.headers.append(("content-length", str(len(self.body))))
        transport.response_empty(self.status, self.headers)


@dataclass(slots=True)
class HeadResponse:
    """What is said of a body that is not sent: a blob's answer to HEAD, wherever its bytes are."""

    status: int
    headers: Headers
    length: int

    def send(self, transport: Transport, *, head: bool) -> None:
        del head
        self.headers.append(("content-length", str(self.length)))
        transport.response_empty(self.status, self.headers)


@dataclass(slots=True)
class FileResponse:
    """An answer whose body is a file, or bytes ``start`` to ``end`` of it; they do not pass through Python."""

    status: int
    headers: Headers
    path: Path
    start: int
    end: int
    whole: bool

    @property
    def length(self) -> int:
        return self.end - self.start

    def send(self, transport: Transport, *, head: bool) -> None:
        del head  # which is answered by `HeadResponse`
        self.headers.append(("content-length", str(self.length)))
        if self.whole:
            transport.response_file(self.status, self.headers, str(self.path))
        else:
            transport.response_file_range(self.status, self.headers, str(self.path), self.start, self.end)


@dataclass(slots=True)
class StreamResponse:
    """An answer of more than `SMALL` bytes that are read from somewhere else while the client takes them.

    The server keeps in memory what is left of its own streams when a client is slow. So the bytes go through a pipe,
    which it reads like a file. One of its threads for files waits at the pipe's end while the body comes.
    """

    status: int
    headers: Headers
    length: int
    body: AsyncGenerator[bytes, None]
    _pipe: tuple[int, int] | None = None

    def send(self, transport: Transport, *, head: bool) -> None:
        """Hand the pipe's end to the server; `feed` fills it."""
        del head
        self.headers.append(("content-length", str(self.length)))
        self._pipe = reading, writing = os.pipe()
        os.set_blocking(writing, False)
        # The body does not fit in, wherever pages are larger: the pipe is full once before all is written.
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, SMALL)
        transport.response_file(self.status, self.headers, f"/proc/self/fd/{reading}")

    async def feed(self) -> None:
        """Write the body as fast as the server takes it; it ends early where the client leaves.

        Raises:
            OciError: the store has failed, and the client gets less than was said.
        """
        assert self._pipe is not None, "send() comes first"  # noqa: S101
        (reading, writing), opened = self._pipe, False
        try:
            async with contextlib.aclosing(self.body) as body:
                async for piece in body:
                    left = memoryview(piece)
                    while left:
                        try:
                            left = left[os.write(writing, left) :]
                        except BlockingIOError:
                            await _writable(writing, None if opened else _OPENING_SECONDS)
                            if not opened:  # now the server has: nobody else takes bytes out
                                opened = True
                                os.close(reading)
        except (BrokenPipeError, TimeoutError):
            return
        finally:
            os.close(writing)
            if not opened:
                os.close(reading)


async def _writable(fd: int, seconds: float | None) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(fd, ready.set)
    try:
        async with asyncio.timeout(seconds):
            await ready.wait()
    finally:
        loop.remove_writer(fd)


Answer: TypeAlias = Response | HeadResponse | FileResponse | StreamResponse


# Names and digests are kinds of text.
encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def json_response(status: int, value: Any, headers: Headers | None = None) -> Response:
    """An answer in JSON."""
    return Response(status, [("content-type", "application/json"), *(headers or [])], encode(value))
