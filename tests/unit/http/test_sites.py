from __future__ import annotations

import pytest

from support.requests import Headers, Scope, Transport
from trow.http.pace import Pace
from trow.http.peers import Peers
from trow.http.request import Request
from trow.http.sites import Sites, origin_of
from trow.oci.errors import Denied

NETWORK = Sites(None, {"https://ui.example.com"}, own=False)


def request(method: str = "POST", **headers: str) -> Request:
    pairs = [(name.replace("_", "-"), value) for name, value in ({"host": "registry.internal"} | headers).items()]
    return Request(Scope(method=method, headers=Headers(pairs)), Transport(), Peers(), Pace(5))


def test_where_anybody_in_the_network_may_write_programs_come_by_any_name() -> None:
    for host in ("registry.internal", "10.0.0.1:8000", "localhost"):
        NETWORK.check(request(host=host))
    NETWORK.check(request(origin="https://ui.example.com", sec_fetch_site="cross-site"))
    NETWORK.check(request(sec_fetch_site="none"))


@pytest.mark.parametrize(
    "origin", ["http://registry.internal", "http://evil.example", "null", "", "HTTPS://UI.example.com"]
)
def test_where_anybody_in_the_network_may_write_no_page_does_by_a_name_that_it_has_pointed_here(origin: str) -> None:
    with pytest.raises(Denied, match="a page of"):
        NETWORK.check(request(origin=origin, host="registry.internal"))


def test_reading_is_left_to_the_browsers_own_rules() -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        NETWORK.check(request(method, origin="https://evil.example", sec_fetch_site="cross-site"))


def test_a_request_of_several_origins_is_refused() -> None:
    pairs = [("host", "a"), ("origin", "https://ui.example.com"), ("origin", "https://evil.example")]
    asked = Request(Scope(method="PUT", headers=Headers(pairs)), Transport(), Peers(), Pace(5))
    with pytest.raises(Denied):
        NETWORK.check(asked)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Registry.Example.Com/prefix", "https://registry.example.com"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("https://registry.example.com:443", "https://registry.example.com"),
        ("https://registry.example.com:80", "https://registry.example.com:80"),
    ],
)
def test_origin_of_a_url(url: str, origin: str) -> None:
    assert origin_of(url) == origin
