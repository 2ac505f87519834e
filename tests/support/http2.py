"""HTTP/2 by hand (RFC 9113): what no client library would send."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from support.wire import ConnectionEnded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.wire import Incoming

DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0, 1, 3, 4, 6
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
_HEAD: Final = 9
# How the server writes a status that has no number of its own (RFC 7541, 6.2.1 and appendix B).
_STATUS: Final = {b"\x48\x82\x10\x03": "201", b"\x48\x82\x10\x05": "202"}
_SETTING: Final = struct.Struct(">HI")
# :method GET, :scheme http (RFC 7541, appendix A); :path and :authority follow, indexed names with values of their own.
_GET: Final = b"\x82\x86"
_POST: Final = b"\x83\x86"
_PATH, _AUTHORITY = b"\x04", b"\x01"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def preface(window: int | None = None) -> bytes:
    """What a client says first; ``window`` is how much of each answer it will take."""
    settings = b"" if window is None else _INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big")
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings)


def get(stream: int, path: str, *extra: tuple[str, str]) -> bytes:
    """A request; the number of its stream is odd and larger than those before."""
    block = _GET + _PATH + _text(path) + _AUTHORITY + _text("registry.test")
    block += b"".join(b"\x00" + _text(name) + _text(value) for name, value in extra)
    return frame(HEADERS, _END_STREAM | _END_HEADERS, stream, block)


def post(stream: int, path: str, body: bytes = b"") -> bytes:
    """A request that does not say how long its body is, to a registry of this machine."""
    block = _POST + _PATH + _text(path) + _AUTHORITY + _text("localhost")
    if not body:
        return frame(HEADERS, _END_STREAM | _END_HEADERS, stream, block)
    return frame(HEADERS, _END_HEADERS, stream, block) + frame(DATA, _END_STREAM, stream, body)


def ping() -> bytes:
    return frame(PING, 0, 0, b"are here")


def frames(incoming: Incoming) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of what the server says, until it ends the connection."""
    while True:
        try:
            head = incoming.read(_HEAD)
        except ConnectionEnded:
            return
        payload = incoming.read(int.from_bytes(head[:3], "big"))
        yield head[3], head[4], int.from_bytes(head[5:], "big"), payload


def ends(incoming: Incoming) -> list[str]:
    """What becomes of the first stream: its answer's status, and how it is reset, if it is."""
    found: list[str] = []
    for kind, flags, stream, payload in frames(incoming):
        if stream and kind == HEADERS:
            found.append(_STATUS.get(payload[:4], "?"))
        if stream and kind == RST_STREAM:
            found.append(f"reset {int.from_bytes(payload)}")
        if stream and (kind == RST_STREAM or flags & _END_STREAM):
            break
    return found


def settings(incoming: Incoming) -> dict[int, int]:
    """What the server says first: its settings, by number (section 6.5.2)."""
    head = incoming.read(_HEAD)
    assert head[3] == SETTINGS
    return dict(_SETTING.iter_unpack(incoming.read(int.from_bytes(head[:3], "big"))))


def _text(value: str) -> bytes:
    size, rest = min(len(value), 127), len(value) - 127
    assert rest < 128, "longer ones are written otherwise"
    return bytes([size] if rest < 0 else [size, rest]) + value.encode("ascii")
