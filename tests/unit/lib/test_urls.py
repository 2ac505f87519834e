from __future__ import annotations

import pytest

from trow.lib.urls import is_loopback, problem_with


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/path",
        "https://[2001:db8::1]/",
        "http://127.0.0.1:8001",
        "http://localhost/x",
        "http://[::1]:80/",
    ],
)
def test_requests_are_sent_by_https_or_to_this_machine(url: str) -> None:
    assert problem_with(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "https://",
        "https://example.com:port",
        "https://[::1",
        "http://example.com",
        "http://192.0.2.1/",
        "http://localhost.example.com/",
        "https://user@example.com",
        "https://:secret@example.com",
        "https://example.com?token=x",
        "https://example.com/#x",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://example.com/\xe4",
    ],
)
def test_requests_are_not_sent_anywhere_else(url: str) -> None:
    assert problem_with(url)


def test_a_query_is_accepted_where_it_is_meant() -> None:
    assert problem_with("https://example.com/?a=b", query=True) == ""
    assert problem_with("https://example.com/?a=b#c", query=True)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("localhost.example.com", False),
        ("registry", False),
    ],
)
def test_loopback_is_what_this_machine_alone_can_reach(host: str, *, loopback: bool) -> None:
    assert is_loopback(host) is loopback
