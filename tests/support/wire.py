"""HTTP on a bare socket: requests no client library would send, answers as they came."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

# Nothing on loopback takes this long; a test that waits for it has found that no answer comes.
WAIT_SECONDS: Final = 30.0
_PIECE: Final = 256 * 1024
_BODILESS: Final = frozenset({204, 304})


class ConnectionEnded(Exception):
    """The server ended the connection before a whole answer had come."""


@dataclass(frozen=True)
class Answer:
    """A response; header names are in lower case, a repeated header keeps all its values."""

    status: int
    headers: Mapping[str, list[str]]
    body: bytes = b""

    def header(self, name: str) -> str:
        """The only value of a header, "" when it is missing."""
        values = self.headers.get(name, [""])
        assert len(values) == 1, f"{name} stands {len(values)} times"
        return values[0]

    @property
    def codes(self) -> list[str]:
        """The codes of an OCI error body; empty when the body is none."""
        try:
            return [str(error["code"]) for error in json.loads(self.body)["errors"]]
        except (ValueError, KeyError, TypeError):
            return []

    def __str__(self) -> str:
        return f"{self.status} {self.body[:300]!r}"


class Incoming:
    """Reads answers out of a stream of bytes.

    Args:
        more: the next bytes of the stream, none at its end.
    """

    def __init__(self, more: Callable[[], bytes], received: bytes = b"") -> None:
        self._more = more
        self.received = received

    def answer(self, method: str) -> Answer:
        """The next final answer, to a request with ``method``.

        Raises:
            ConnectionEnded: there is none.
        """
        status, headers = self.head()
        if method == "HEAD" or status in _BODILESS:
            return Answer(status, headers)
        return Answer(status, headers, self._body(headers))

    def head(self) -> tuple[int, Mapping[str, list[str]]]:
        """Status and headers of the next final answer; its body is still to be read."""
        while True:
            status, headers = self._any_head()
            if status >= 200:
                return status, headers

    def interim(self) -> int:
        """The status of an interim answer (1xx), or of a final one that came in its place."""
        return self._any_head()[0]

    def _any_head(self) -> tuple[int, Mapping[str, list[str]]]:
        status_line, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        return int(status_line.split(" ")[1]), _headers(lines)

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        pieces = [self.received]
        missing = size - len(self.received)
        while missing > 0:
            pieces.append(self._next())
            missing -= len(pieces[-1])
        data = b"".join(pieces)
        self.received = data[size:]
        return data[:size]

    def _body(self, headers: Mapping[str, list[str]]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", []):
            return b"".join(self._chunks())
        if "content-length" in headers:
            return self.read(int(headers["content-length"][0]))
        return self._rest()

    def _chunks(self) -> Iterable[bytes]:
        while size := int(self._until(b"\r\n"), 16):
            yield self.read(size + 2)[:size]
        self.read(2)

    def _rest(self) -> bytes:
        while piece := self._more():
            self.received += piece
        data, self.received = self.received, b""
        return data

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.received:
            self.received += self._next()
        data, _, self.received = self.received.partition(mark)
        return data

    def _next(self) -> bytes:
        piece = self._more()
        if not piece:
            raise ConnectionEnded(f"after {self.received[:200]!r}")
        return piece


def _headers(lines: Iterable[str]) -> Mapping[str, list[str]]:
    headers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    return headers


def request(
    method: str, target: str | bytes, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
) -> bytes:
    """The bytes of a request, with whatever method, target and header values; ``body`` brings its Content-Length."""
    raw = target.encode() if isinstance(target, str) else target
    lines = [method.encode() + b" " + raw + b" HTTP/1.1", b"Host: localhost"]
    lines += [f"{name}: {value}".encode("utf-8", "surrogateescape") for name, value in headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body or b""])


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """A body in chunks (RFC 9112, section 7.1); without ``end`` its sender seems to have stopped in the middle."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + (b"0\r\n\r\n" if end else b"")


def announced(method: str, target: str, length: int) -> bytes:
    """The head of a request whose client waits until it is told to send the body."""
    return request(method, target, [("Content-Length", str(length)), ("Expect", "100-continue")])


class Wire:
    """One connection: `with Wire(trow.host) as wire: ...`."""

    def __init__(self, host: str, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None) -> None:
        name, _, port = host.rpartition(":")
        plain = socket.socket()
        plain.settimeout(WAIT_SECONDS)
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            plain.connect((name, int(port)))
            self.socket = tls.wrap_socket(plain, server_hostname=name) if tls else plain
        except BaseException:
            plain.close()
            raise
        self.incoming = Incoming(self.receive)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_what_it_takes(self, data: bytes) -> None:
        """Send to a server that may answer, and end the connection, before it has read everything."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def receive(self) -> bytes:
        """Some bytes, none when the connection has ended in whatever way."""
        try:
            return self.socket.recv(_PIECE)
        except ConnectionError:
            return b""

    def receive_all(self) -> bytes:
        """Everything until the server ends the connection."""
        return b"".join(iter(self.receive, b""))

    def wait_until_read(self) -> None:
        """After a request with ``Expect: 100-continue``: its handler has begun to read the body."""
        assert self.incoming.interim() == 100

    def answer(self, method: str = "GET") -> Answer:
        return self.incoming.answer(method)

    def ask(
        self, method: str, target: str | bytes, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
    ) -> Answer:
        """Send a request and read its answer."""
        self.send(request(method, target, headers, body))
        return self.answer(method)

    def reset(self) -> None:
        """Vanish: the peer gets an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
