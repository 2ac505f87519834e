"""Answers as values; `Response.send` gives them to the server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

    from trow.http.request import Transport

Headers: TypeAlias = list[tuple[str, str]]


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
        """Bytes of the body."""
        return self.end - self.start

    def send(self, transport: Transport, *, head: bool) -> None:
        """Hand it to the server."""
        self.headers.append(("content-length", str(self.length)))
        if head:
            transport.response_empty(self.status, self.headers)
        elif self.whole:
            transport.response_file(self.status, self.headers, str(self.path))
        else:
            transport.response_file_range(self.status, self.headers, str(self.path), self.start, self.end)


Answer: TypeAlias = Response | FileResponse


# Names and digests are kinds of text.
encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def json_response(status: int, value: Any, headers: Headers | None = None) -> Response:
    """An answer in JSON."""
    return Response(status, [("content-type", "application/json"), *(headers or [])], encode(value))
