"""A client cheap enough that the server is what is measured: raw sockets, HTTP/1.1, kept alive."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

TIMEOUT = 300.0
HEAD_END = b"\r\n\r\n"
RECEIVE = 1 << 20


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def expect(self, *statuses: int) -> Response:
        if self.status not in statuses:
            raise RuntimeError(f"expected {statuses}, got {self.status}: {self.body[:400]!r}")
        return self

    @property
    def location(self) -> str:
        """The path and query of `Location`, which may be absolute or relative."""
        parts = urlsplit(self.headers["location"])
        return f"{parts.path}?{parts.query}" if parts.query else parts.path


def request_head(method: str, target: str, headers: Mapping[str, str], length: int | None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    if length is not None:
        lines.append(f"content-length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def parse_head(head: bytes) -> Response:
    status_line, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Response(int(status_line.split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs})


class Connection:
    """One connection; requests go one after the other."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_connection(address, timeout=TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname=address[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        """Send a request with a small body; answer the whole response."""
        self._socket.sendall(request_head(method, target, headers or {}, _length(method, body)) + (body or b""))
        response, start = self._receive_head()
        if method == "HEAD" or response.status in {204, 304}:
            return response
        return Response(response.status, response.headers, self._receive_rest(response, start))

    def upload(self, method: str, target: str, head: bytes, tail: BinaryIO, size: int) -> Response:
        """Send a large body: a block from memory, then a file by `sendfile`."""
        kind = {"content-type": "application/octet-stream"}
        self._socket.sendall(request_head(method, target, kind, size) + head)
        self._socket.sendfile(tail)
        response, start = self._receive_head()
        return Response(response.status, response.headers, self._receive_rest(response, start))

    def download(self, target: str, buffer: bytearray) -> int:
        """Receive a large body and forget it; answer its size."""
        self._socket.sendall(request_head("GET", target, {}, None))
        response, start = self._receive_head()
        response.expect(200)
        missing = size = int(response.headers["content-length"])
        missing -= len(start)
        while missing > 0:
            received = self._socket.recv_into(buffer, min(missing, len(buffer)))
            if not received:
                raise ConnectionError(f"{missing} bytes of {target} never came")
            missing -= received
        return size

    def _receive_head(self) -> tuple[Response, bytes]:
        received = b""
        while HEAD_END not in received:
            received += self._receive()
        head, _, rest = received.partition(HEAD_END)
        return parse_head(head), rest

    def _receive_rest(self, response: Response, start: bytes) -> bytes:
        missing = int(response.headers["content-length"]) - len(start)
        pieces = [start]
        while missing > 0:
            pieces.append(self._receive())
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _receive(self) -> bytes:
        received = self._socket.recv(RECEIVE)
        if not received:
            raise ConnectionError("the server closed the connection")
        return received


def _length(method: str, body: bytes | None) -> int | None:
    """Requests that may carry a body say its length, also when it is empty."""
    if body is None and method in {"GET", "HEAD", "DELETE"}:
        return None
    return len(body or b"")
