from __future__ import annotations

from pathlib import Path

import pytest

from support.requests import Transport
from trow.http.response import Answer, FileResponse, HeadResponse, Response, json_response
from trow.oci.digest import Digest

FILE = Path("/blobs/x")


def sent(answer: Answer, *, head: bool = False) -> Transport:
    transport = Transport()
    answer.send(transport, head=head)
    return transport


def test_body_at_hand() -> None:
    got = sent(Response(200, [("a", "b")], b"body"))
    assert (got.status, got.headers, got.body) == (200, [("a", "b")], b"body")


def test_head_says_how_long_the_body_would_be() -> None:
    got = sent(Response(200, [], b"body"), head=True)
    assert (got.status, got.headers, got.body) == (200, [("content-length", "4")], b"")


@pytest.mark.parametrize("status", [204, 304])
def test_head_of_what_has_no_body(status: int) -> None:
    assert sent(Response(status), head=True).headers == []


def test_file_is_sent_by_the_server() -> None:
    got = sent(FileResponse(200, [], FILE, 0, 10, whole=True))
    assert (got.status, got.headers, got.file) == (200, [("content-length", "10")], (str(FILE), 0, -1))


def test_part_of_a_file() -> None:
    got = sent(FileResponse(206, [], FILE, 3, 10, whole=False))
    assert (got.status, got.headers, got.file) == (206, [("content-length", "7")], (str(FILE), 3, 10))


def test_length_of_a_body_that_is_not_sent() -> None:
    got = sent(HeadResponse(200, [], 10), head=True)
    assert (got.status, got.headers, got.body, got.file) == (200, [("content-length", "10")], b"", None)


def test_json_knows_kinds_of_text() -> None:
    response = json_response(201, {"digest": Digest.of(b""), "none": None}, [("a", "b")])
    assert response.headers == [("content-type", "application/json"), ("a", "b")]
    assert response.body == b'{"digest":"%s","none":null}' % Digest.of(b"").encode()
