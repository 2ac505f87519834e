"""Requests to other machines, against a server that says what a test wants."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trustme

from trow.lib.http_client import AnswerTooLarge, Disconnected, HttpClient, HttpError, NotTrusted, TimedOut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Server:
    """Answers each request with the same bytes; then waits, or ends the connection."""

    answer: bytes = OK
    ends: bool = False
    delay: float = 0.0
    url: str = ""
    heads: list[str] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head.decode())
                await asyncio.sleep(self.delay)
                writer.write(self.answer)
                await writer.drain()
                if self.ends:
                    break
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    scheme, port = "https" if tls else "http", listening.sockets[0].getsockname()[1]
    server.url = f"{scheme}://127.0.0.1:{port}"
    try:
        yield server
    finally:
        listening.close()
        await listening.wait_closed()


async def error_of(server: Server, kind: type[HttpError] = HttpError, seconds: float = 5.0) -> HttpError:
    async with HttpClient() as client:
        with pytest.raises(kind) as caught:
            await client.request("GET", server.url, seconds=seconds, most_bytes=100)
    assert caught.value.fix.startswith(("try ", "check ", "see "))
    return caught.value


async def test_an_answer_has_status_headers_and_body() -> None:
    async with serving(Server(b"HTTP/1.1 404 Not Found\r\nX-Why: gone\r\nContent-Length: 2\r\n\r\nno")) as server:
        async with HttpClient() as client:
            answer = await client.request(
                "PUT", f"{server.url}/x?y=%2F", headers={"Accept": "text/plain"}, body=b"", seconds=5, most_bytes=2
            )
        assert (answer.status, answer.headers["x-why"], answer.body) == (404, "gone", b"no")
        assert server.heads[0].startswith("PUT /x?y=%2F HTTP/1.1\r\n")
        assert "Accept: text/plain\r\n" in server.heads[0]


async def test_a_connection_is_used_again() -> None:
    async with serving(Server()) as server, HttpClient() as client:
        for _ in range(3):
            await client.request("GET", server.url, seconds=5, most_bytes=2)
        assert (len(server.heads), server.connections) == (3, 1)


async def test_a_redirect_is_an_answer() -> None:
    async with serving(Server(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n")) as server:
        async with HttpClient() as client:
            answer = await client.request("GET", server.url, seconds=5, most_bytes=2)
        assert (answer.status, answer.headers["Location"], len(server.heads)) == (302, "/other", 1)


async def test_cookies_are_not_kept() -> None:
    async with serving(Server(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")) as server:
        async with HttpClient() as client:
            for _ in range(2):
                await client.request("GET", server.url, seconds=5, most_bytes=2)
        assert not any("cookie" in head.lower() for head in server.heads)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with serving(Server()) as server, HttpClient() as client:
        assert (await client.request("GET", server.url, seconds=5, most_bytes=2)).body == b"ok"


async def test_sizes_are_those_that_are_sent() -> None:
    body = gzip.compress(b"x" * 100_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(Server(head + body)) as server, HttpClient() as client:
        assert (await client.request("GET", server.url, seconds=5, most_bytes=len(body))).body == body


async def test_an_answer_that_is_too_large_is_cut() -> None:
    async with serving(Server(b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101)) as server:
        error = await error_of(server, AnswerTooLarge)
        assert str(error) == "answers with more than 100 bytes"


async def test_an_endless_answer_is_cut() -> None:
    async with serving(Server(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000)) as server:
        await error_of(server, AnswerTooLarge)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_a_server_that_is_silent_is_given_up(answer: bytes) -> None:
    began = time.monotonic()
    async with serving(Server(answer)) as server:
        error = await error_of(server, TimedOut, seconds=0.2)
        assert str(error) == "does not answer within 0.2 s"
    assert time.monotonic() - began < 5


async def test_a_server_that_is_down_is_told() -> None:
    async with serving(Server()) as server:
        pass
    error = await error_of(server)
    assert str(error).startswith("cannot be reached (")
    assert error.fix == "check its URL and the way to it"


async def test_a_connection_that_ends_before_the_answer_is_told() -> None:
    async with serving(Server(b"", ends=True)) as server:
        assert str(await error_of(server, Disconnected)) == "closes the connection without an answer"


async def test_an_answer_that_breaks_off_is_told() -> None:
    async with serving(Server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", ends=True)) as server:
        assert str(await error_of(server, Disconnected)) == "breaks off its answer (ClientPayloadError)"


async def test_what_is_not_http_is_told() -> None:
    async with serving(Server(b"220 mail.example.com ESMTP\r\n", ends=True)) as server:
        assert str(await error_of(server)).startswith("does not speak HTTP as expected (")


async def test_a_certificate_that_is_not_trusted_is_told_until_it_is() -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ignore_tag = ssl.create_default_context()
    authority.configure_trust(ignore_tag)
    async with serving(Server(), context) as server, HttpClient() as client:
        with pytest.raises(NotTrusted, match=r"a certificate that is not trusted \(.+\)"):
            await client.request("GET", server.url, seconds=5, most_bytes=2)
        client.tls = ignore_tag
        assert (await client.request("GET", server.url, seconds=5, most_bytes=2)).body == b"ok"


async def test_an_answer_is_had_as_it_comes() -> None:
    async with serving(Server(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nfirst")) as server, HttpClient() as client:
        async with client.stream("GET", server.url, seconds=5) as answer:
            assert await answer.chunk(seconds=5) == b"first"
            with pytest.raises(TimedOut, match="has been silent for too long"):
                await answer.chunk(seconds=0.05)
        server.answer = OK
        async with client.stream("GET", server.url, seconds=5) as answer:
            assert [await answer.chunk(seconds=5), await answer.chunk(seconds=5)] == [b"ok", b""]
        assert server.connections == 2  # what was left of the first answer is not taken for another one


def test_the_library_is_loaded_when_something_is_asked() -> None:
    """It takes as much memory as all else."""
    program = "import sys, trow.kube.objects, trow.audit.webhook, trow.identity.oidc; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout == "False\n"
