"""Requests without a server: what it would tell the application of one, and what the application answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trow.http import request

HeaderList = list[tuple[str, str]]


class Headers:
    """Headers as the server gives them: by lower-case name, each as often as it was sent."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._pairs = pairs

    def get(self, key: str, default: str | None = None) -> str | None:
        return next((value for name, value in self._pairs if name == key), default)

    def get_all(self, key: str) -> list[str]:
        return [value for name, value in self._pairs if name == key]


@dataclass
class Scope:
    """See `trow.http.request.Scope`."""

    method: str = "GET"
    path: str = "/v2/"
    query_string: str = ""
    client: str = "192.0.2.1:1234"
    scheme: str = "http"
    http_version: str = "1.1"
    authority: str | None = None
    headers: request.Headers = field(default_factory=lambda: Headers([]))


class Transport:
    """Gives a body and keeps the answer."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.status = 0
        self.headers: HeaderList = []
        self.body = b""
        self.file: tuple[str, int, int] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def __call__(self) -> bytes:
        return b"".join([piece async for piece in self])

    def response_empty(self, status: int, headers: HeaderList) -> None:
        self.status, self.headers = status, headers

    def response_bytes(self, status: int, headers: HeaderList, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def response_file(self, status: int, headers: HeaderList, file: str) -> None:
        self.status, self.headers, self.file = status, headers, (file, 0, -1)

    def response_file_range(self, status: int, headers: HeaderList, file: str, start: int, end: int) -> None:
        self.status, self.headers, self.file = status, headers, (file, start, end)
