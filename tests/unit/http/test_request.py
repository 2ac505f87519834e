from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from support.requests import Headers, Scope, Transport
from trow.http.pace import Pace
from trow.http.peers import Peers
from trow.http.request import Request
from trow.oci.errors import BodyIncomplete, BodyTimeout, RequestInvalid, Unauthorized
from trow.registry.events import Origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence


def request(
    *pieces: bytes,
    headers: list[tuple[str, str]] | None = None,
    query: str = "",
    client: str = "192.0.2.1:1",
    proxies: Sequence[str] = (),
) -> Request:
    scope = Scope(query_string=query, headers=Headers(headers or []), client=client)
    return Request(scope, Transport(*pieces), Peers(proxies), Pace(5))


@pytest.mark.parametrize(
    ("client", "address"),
    [("192.0.2.1:80", "192.0.2.1"), ("[2001:db8::1]:80", "2001:db8::1"), ("2001:db8::1:80", "2001:db8::1")],
)
def test_client_is_an_address_without_port(client: str, address: str) -> None:
    assert request(client=client).client == address


def test_header_that_stands_once() -> None:
    asked = request(headers=[("range", "bytes=0-1")])
    assert (asked.header("range"), asked.header("if-range")) == ("bytes=0-1", None)


def test_header_that_is_repeated_as_it_is_has_one_value() -> None:
    assert request(headers=[("range", "bytes=0-1")] * 3).header("range") == "bytes=0-1"


def test_list_may_stand_on_several_lines() -> None:
    asked = request(headers=[("if-none-match", '"a", "b"'), ("range", "x"), ("if-none-match", '"c"')])
    assert asked.header_list("if-none-match") == '"a", "b", "c"'
    assert asked.header_list("accept") is None
    assert len(request(headers=[("if-none-match", "a" * 5000)] * 2).header_list("if-none-match") or "") == 8192


def test_header_that_asks_for_what_need_not_be_done() -> None:
    for values, expected in ((["a"], "a"), (["a", "a"], "a"), (["a", "b"], None), (["a" * 9000], None), ([], None)):
        assert request(headers=[("range", value) for value in values]).optional_header("range") == expected


@pytest.mark.parametrize("values", [["a", "b"], ["a", "a", "A"], ["a" * 8193]])
def test_header_that_is_refused(values: list[str]) -> None:
    with pytest.raises(RequestInvalid):
        request(headers=[("range", value) for value in values]).header("range")


def test_query() -> None:
    asked = request(query="tag=a&tag=b%2Bc&n=&last=%C3%A9+x&digest=sha256:0")
    assert asked.query_all("tag") == ["a", "b+c"]
    assert (asked.query("last"), asked.query("digest")) == ("é x", "sha256:0")
    assert asked.query("none") is None
    with pytest.raises(RequestInvalid):
        asked.query("tag")


@pytest.mark.parametrize("query", ["n=", "n", "n=&n=", ""])
def test_query_parameter_that_is_empty_is_not_there(query: str) -> None:
    assert request(query=query).query("n") is None


def test_query_parameter_that_is_repeated_as_it_is_has_one_value() -> None:
    assert request(query="n=5&last=x&n=5&n=").query("n") == "5"


def test_what_is_no_text_is_held_against_the_parameter_that_has_it() -> None:
    asked = request(query="from=%ff&n=5")
    assert asked.query("n") == "5"
    with pytest.raises(RequestInvalid, match="from is not in UTF-8"):
        asked.query("from")


@pytest.mark.parametrize("query", ["last=%ff", "&".join("tag=a" for _ in range(1001))])
def test_query_that_cannot_be_read(query: str) -> None:
    with pytest.raises(RequestInvalid):
        request(query=query).query("last")


@pytest.mark.parametrize("text", ["-1", "+1", "1.0", "0x10", "", " ", "٣", "9" * 19, "1, 1"])
def test_content_length_that_is_no_number(text: str) -> None:
    with pytest.raises(RequestInvalid):
        _ = request(headers=[("content-length", text)]).content_length


def test_content_length() -> None:
    assert request(headers=[("content-length", "12")]).content_length == 12
    assert request().content_length is None


@pytest.mark.parametrize(
    ("headers", "has_body"),
    [
        ([], False),
        ([("content-length", "0")], False),
        ([("content-length", "1")], True),
        ([("transfer-encoding", "chunked")], True),
    ],
)
def test_body_that_was_announced(headers: list[tuple[str, str]], has_body: bool) -> None:  # noqa: FBT001
    assert request(headers=headers).has_body is has_body


def test_body_need_not_be_announced_in_http_2() -> None:
    for headers, has_body in ((Headers([]), True), (Headers([("content-length", "0")]), False)):
        asked = Request(Scope(http_version="2", headers=headers), Transport(), Peers(()), Pace(5))
        assert asked.has_body is has_body


async def test_body_comes_in_pieces() -> None:
    asked = request(b"ab", b"", b"c", headers=[("content-length", "3")])
    assert [piece async for piece in asked.body()] == [b"ab", b"c"]
    assert asked.body_read
    assert asked.received == 3


async def test_body_that_was_left_goes_on_where_it_was() -> None:
    asked = request(b"ab", b"c", b"d", headers=[("content-length", "4")])
    unread = [asked.has_unread_body]
    async for piece in asked.body():
        assert piece == b"ab"
        break
    unread.append(asked.has_unread_body)
    assert [piece async for piece in asked.body()] == [b"c", b"d"]
    assert [*unread, asked.has_unread_body] == [True, True, False]
    assert asked.received == 4


async def test_body_that_ends_early_gives_what_came_and_then_an_error() -> None:
    asked = request(b"ab", headers=[("content-length", "3")])
    body = asked.body()
    assert await anext(body) == b"ab"
    with pytest.raises(BodyIncomplete, match="2 of 3"):
        await anext(body)


async def test_silence_in_the_middle_of_a_body() -> None:
    class Silent(Transport):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"ab"
            await asyncio.Event().wait()

    asked = Request(Scope(), Silent(), Peers(), Pace(0.01))
    body = asked.body()
    assert await anext(body) == b"ab"
    with pytest.raises(BodyTimeout):
        await anext(body)
    assert asked.received == 2
    assert not asked.has_unread_body


async def test_a_small_body_at_once() -> None:
    asked = request(b"ab", b"c", headers=[("content-length", "3")])
    assert await asked.whole_body(5) == b"abc"
    assert asked.body_read
    assert asked.received == 3


async def test_a_small_body_that_does_not_come() -> None:
    class Silent(Transport):
        async def __call__(self) -> bytes:
            await asyncio.Event().wait()
            return b""

    with pytest.raises(BodyTimeout, match=r"within 0\.01 seconds"):
        await Request(Scope(), Silent(), Peers(), Pace(5)).whole_body(0.01)


class Trickle(Transport):
    """A body that goes on forever, a byte at a time."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.001)
            yield b"x"


async def test_body_that_comes_a_byte_now_and_then() -> None:
    asked = Request(Scope(), Trickle(), Peers(), Pace(0.05, 100_000))
    with pytest.raises(BodyTimeout, match=r"limits.body_timeout.*100000 bytes a second.*limits.body_rate"):
        async for _ in asked.body():
            pass
    assert asked.received < 1000


async def test_time_that_the_registry_takes_does_not_count() -> None:
    asked = Request(Scope(), Transport(b"a", b"b", b"c"), Peers(), Pace(0.02, 1000))
    async for _ in asked.body():
        await asyncio.sleep(0.03)
    assert asked.received == 3


# Who asks


def test_credentials_stand_once_and_may_be_long() -> None:
    assert request().authorization is None
    long = "Bearer " + "a" * 15_000  # longer than other headers may be
    assert request(headers=[("authorization", long)]).authorization == long
    with pytest.raises(Unauthorized, match="more than one"):
        _ = request(headers=[("authorization", "Basic YTpi")] * 2).authorization


def test_numbers_of_requests_are_all_different() -> None:
    numbers = {request().number for _ in range(1000)}
    assert len(numbers) == 1000
    assert len({number.partition("-")[0] for number in numbers}) == 1, "one process, one prefix"
    assert all(number.isascii() and number.isprintable() and len(number) < 40 for number in numbers)


def test_client_behind_a_proxy_that_is_trusted() -> None:
    asked = request(headers=[("x-forwarded-for", "203.0.113.7, 10.0.0.1")], client="10.0.0.2:1", proxies=["10.0.0.0/8"])
    assert asked.client == "203.0.113.7"
    assert asked.origin == Origin("203.0.113.7", "203.0.113.7, 10.0.0.1", "", asked.number, "")


def test_origin_of_a_request() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = [("user-agent", "docker/27"), ("traceparent", f"00-{trace}-00f067aa0ba902b7-01")]
    asked = request(headers=headers)
    assert asked.origin == Origin("192.0.2.1", "", "docker/27", asked.number, trace)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "x" * 10_000,
    ],
)
def test_what_is_no_trace_is_left_out(text: str) -> None:
    assert request(headers=[("traceparent", text)]).origin.trace == ""


def test_name_of_the_client_program_is_bounded() -> None:
    assert request(headers=[("user-agent", "x" * 10_000)]).origin.agent == "x" * 256
