"""Requests that a proxy could read in another way than Trow are refused (RFC 9112, 3.2 and 6.1; RFC 9113, 8.3.1)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import pytest

from support import http2
from support.server import Trow
from support.wire import Wire, request

if TYPE_CHECKING:
    from collections.abc import Iterator

USER: Final = ("alice", "correct horse")
HOST: Final = b"Host: registry.test\r\n"
UPLOAD: Final = b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\n" + HOST
NEXT: Final = request("GET", "/healthz")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "TLS"])
def trow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    """It asks for a login, so that it is not the name of the host that decides."""
    with Trow.start(tmp_path_factory.mktemp("framing"), tls=request.param, user=USER) as server:
        yield server


def connect(trow: Trow, protocol: str = "http/1.1") -> Wire:
    if trow.tls is None:
        return Wire(trow.host)
    context = ssl.create_default_context(cafile=str(trow.ca))
    context.set_alpn_protocols([protocol])
    return Wire(trow.host, context)


def status(trow: Trow, raw: bytes) -> int:
    with connect(trow) as wire:
        wire.send(raw)
        return wire.answer().status


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n" + HOST,
        b"GET /healthz HTTP/1.1\r\nHOST: REGISTRY.test:8000\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: [::1]:8000\r\n",
        b"GET /healthz HTTP/1.0\r\n",
        b"GET http://registry.test/healthz HTTP/1.1\r\n" + HOST,
    ],
)
def test_a_request_for_one_host_is_answered(trow: Trow, head: bytes) -> None:
    assert status(trow, head + b"\r\n") == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"Host: other.test\r\n",
        b"GET /healthz HTTP/1.1\r\n" + HOST + HOST,
        b"GET /healthz HTTP/1.1\r\n",
        b"GET /healthz HTTP/1.1\r\nHost:\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: registry.test, other.test\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: registry.test/path\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: me@registry.test\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: \xff\r\n",
        b"GET http://other.test/healthz HTTP/1.1\r\n" + HOST,
    ],
)
def test_a_request_for_no_host_or_for_several_is_refused(trow: Trow, head: bytes) -> None:
    assert status(trow, head + b"\r\n") == 400


@pytest.mark.parametrize(
    "head",
    [
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Content-Length: 0\r\nContent-Length: 5\r\n",
        b"Content-Length: 0, 0\r\n",
        b"Content-Length: +0\r\n",
    ],
)
def test_a_body_whose_end_can_be_read_in_two_ways_is_refused(trow: Trow, head: bytes) -> None:
    with connect(trow) as wire:
        wire.send_what_it_takes(UPLOAD + head + b"\r\n0\r\n\r\n" + NEXT)
        assert wire.answer("POST").status == 400


@pytest.mark.parametrize("first", [0, 1])
def test_nothing_is_taken_for_a_request_behind_a_body_with_two_lengths(trow: Trow, first: int) -> None:
    lengths = [b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"]
    with connect(trow) as wire:
        wire.send_what_it_takes(UPLOAD + lengths[first] + lengths[1 - first] + b"\r\n0\r\n\r\n" + NEXT)
        assert wire.answer("POST").status == 401
        assert wire.receive_all() == b""


def http_2_status(trow: Trow, *headers: bytes) -> bytes:
    """The first byte of the first answer's headers: how its status is written (RFC 7541, appendix A)."""
    with connect(trow, "h2") as wire:
        wire.send(http2.preface() + b"".join(headers))
        for kind, _, stream, payload in http2.frames(wire.incoming):
            if stream and kind in (http2.HEADERS, http2.RST_STREAM):
                return payload[:1] if kind == http2.HEADERS else b"reset"
        return b"ended"


OK, BAD_REQUEST = b"\x88", b"\x8c"


def test_http_2_is_for_the_host_of_its_authority_and_no_other(trow: Trow) -> None:
    assert http_2_status(trow, http2.get(1, "/healthz")) == OK
    assert http_2_status(trow, http2.get(1, "/healthz", ("host", "registry.test"))) == OK
    assert http_2_status(trow, http2.get(1, "/healthz", ("host", "other.test"))) == BAD_REQUEST
    twice = [("host", "registry.test"), ("host", "registry.test")]
    assert http_2_status(trow, http2.get(1, "/healthz", *twice)) == BAD_REQUEST


def test_http_2_has_no_transfer_encoding(trow: Trow) -> None:
    assert http_2_status(trow, http2.get(1, "/healthz", ("transfer-encoding", "chunked"))) == b"reset"
