from __future__ import annotations

import pytest

from support.requests import Headers, Scope, Transport
from trow.http.cors import Cors
from trow.http.pace import Pace
from trow.http.peers import Peers
from trow.http.request import Request

UI = "https://ui.example.com"


def request(method: str = "GET", **headers: str) -> Request:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Request(Scope(method=method, headers=Headers(pairs)), Transport(), Peers(), Pace(1))


def test_named_origin_may_send_credentials() -> None:
    headers = dict(Cors([UI, "https://b.example"]).headers(request(origin=UI)))
    assert headers["access-control-allow-origin"] == UI
    assert headers["access-control-allow-credentials"] == "true"
    assert "Docker-Content-Digest" in headers["access-control-expose-headers"]
    assert headers["vary"] == "Origin"


def test_any_origin_may_not_send_credentials() -> None:
    headers = dict(Cors(["*"]).headers(request(origin=UI)))
    assert headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in headers


def test_named_origin_beside_the_wildcard() -> None:
    cors = Cors(["*", UI])
    assert dict(cors.headers(request(origin=UI)))["access-control-allow-origin"] == UI
    assert dict(cors.headers(request(origin="https://b.example")))["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", UI + ".evil.example", "http://ui.example.com", ""])
def test_other_origin_gets_nothing(origin: str) -> None:
    assert Cors([UI]).headers(request(origin=origin)) == [("vary", "Origin")]


def test_request_that_is_not_from_a_browser() -> None:
    assert Cors([UI]).headers(request()) == []


def test_preflight() -> None:
    answer = Cors([UI]).preflight(request("OPTIONS", origin=UI, access_control_request_method="PUT"))
    assert answer is not None
    headers = dict(answer.headers)
    assert answer.status == 204
    assert "PUT" in headers["access-control-allow-methods"].split(", ")
    assert "Authorization" in headers["access-control-allow-headers"].split(", ")
    assert int(headers["access-control-max-age"]) > 0


def test_preflight_of_another_origin_allows_nothing() -> None:
    answer = Cors([UI]).preflight(
        request("OPTIONS", origin="https://evil.example", access_control_request_method="PUT")
    )
    assert answer is not None
    assert answer.status == 204
    assert "access-control-allow-origin" not in dict(answer.headers)


@pytest.mark.parametrize(("method", "asked"), [("OPTIONS", {}), ("GET", {"access_control_request_method": "PUT"})])
def test_what_is_no_preflight(method: str, asked: dict[str, str]) -> None:
    assert Cors([UI]).preflight(request(method, origin=UI, **asked)) is None
