"""HTTP requests to other machines: bounded in time and size, with errors that say what is wrong.

This is the only module that sends such requests. Nothing of the environment is used (proxies, netrc), there are no
cookies, a redirect is an answer like any other, and nothing is decompressed, so that sizes are counted as they are
sent.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator, Mapping

    import aiohttp

_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "trow"}
_TRY_LATER: Final = "try again later"
_CHECK_URL: Final = "check its URL and the way to it"


class HttpError(Exception):
    """There is no answer that can be used.

    Its text says what the server does, as in "does not answer within 5 s".

    Attributes:
        fix: what to do about it.
    """

    def __init__(self, what: str, fix: str = _TRY_LATER) -> None:
        super().__init__(what)
        self.fix = fix


class TimedOut(HttpError):
    """The answer, or a part of it, did not come in time."""


class NotTrusted(HttpError):
    """The server shows a certificate that cannot be verified."""


class Disconnected(HttpError):
    """The connection ended before the answer did. The server may have done what it was asked."""


class AnswerTooLarge(HttpError):
    """The answer is larger than the limit."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; the names of its headers are compared without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class OpenAnswer:
    """An answer whose body is still to come.

    Attributes:
        headers: their names are compared without regard to case.
    """

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response

    async def read(self, most_bytes: int, *, seconds: float) -> bytes:
        """All of the body.

        Raises:
            HttpError: it is larger than that, or does not come in time.
        """
        read = bytearray()
        async with _within(seconds):
            while chunk := await self._next():
                read += chunk
                if len(read) > most_bytes:
                    raise AnswerTooLarge(
                        f"answers with more than {most_bytes} bytes", "see what makes the answer that large"
                    )
        return bytes(read)

    async def chunk(self, *, seconds: float) -> bytes:
        """The next piece of the body, b"" at the end.

        Raises:
            HttpError: nothing comes for so long, or the answer breaks off.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._next()
        except TimeoutError:
            raise TimedOut("has been silent for too long") from None

    async def _next(self) -> bytes:
        import aiohttp  # noqa: PLC0415 - see below

        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise Disconnected(f"breaks off its answer ({type(error).__name__})") from None


class HttpClient:
    """Sends requests. Made anywhere, used on one event loop; `close` it, or use it as a context.

    Args:
        tls: whom to trust, and who Trow is; None trusts the authorities of the system.
        connect_seconds: how long a connection may take; None: as long as the request.
        most_connections: how many there may be at a time; 0 leaves that to the caller.
        server_name: the name in the server's certificate; "" is that of the URL.

    Attributes:
        tls: may be replaced, for requests to come.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        *,
        connect_seconds: float | None = None,
        most_connections: int = 0,
        server_name: str = "",
    ) -> None:
        self.tls = tls
        self._connect_seconds = connect_seconds
        self._most_connections = most_connections
        self._server_name = server_name or None
        self._opened: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        most_bytes: int,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send a request and read the whole answer, whatever its status.

        Args:
            method: of the request.
            url: where to send it; who may be asked is up to the caller (`trow.lib.urls.problem_with`).
            seconds: how long it may take with everything.
            most_bytes: how large the body of the answer may be.
            headers: beside those that each request has.
            body: of the request.

        Raises:
            HttpError: there is no answer, or none of that size in that time.
        """
        async with _within(seconds), self.stream(method, url, seconds=seconds, headers=headers, body=body) as answer:
            return Answer(answer.status, answer.headers, await answer.read(most_bytes, seconds=seconds))

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, seconds: float, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> AsyncIterator[OpenAnswer]:
        """Send a request and read the answer as it comes, which has to begin within ``seconds``.

        Raises:
            HttpError: there is no answer, or none in that time.
        """
        from yarl import URL  # noqa: PLC0415 - see below

        exact = URL(url, encoded=True)  # what is signed must not be written in another way
        async with _within(seconds):
            with _in_words(self._connect_seconds):
                response = await self._session().request(
                    method,
                    exact,
                    data=body or None,
                    headers=headers,
                    ssl=self.tls or True,
                    server_hostname=self._server_name,
                    allow_redirects=False,
                )
        answer = OpenAnswer(response)
        try:
            yield answer
        finally:
            connection = response.connection
            if not response.content.at_eof() and connection is not None and connection.transport is not None:
                connection.transport.abort()  # without waiting for a farewell
            response.release()

    async def close(self) -> None:
        """Close all connections."""
        session, self._opened = self._opened, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _session(self) -> aiohttp.ClientSession:
        # The library takes as much memory as all else: it is loaded with the first request.
        import aiohttp  # noqa: PLC0415

        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._most_connections),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers=_HEADERS,
            )
        return self._opened


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TimedOut(f"does not answer within {seconds:g} s") from None


@contextmanager
def _in_words(connect_seconds: float | None) -> Iterator[None]:
    import aiohttp  # noqa: PLC0415 - see above

    try:
        yield
    except TimeoutError:
        raise TimedOut(f"cannot be connected to within {connect_seconds or 0:g} s", _CHECK_URL) from None
    except aiohttp.ClientConnectorCertificateError as error:
        why = getattr(error.certificate_error, "verify_message", "")
        raise NotTrusted(f"shows a certificate that is not trusted ({why})", "check the CA file") from None
    except aiohttp.ClientConnectorError as error:
        raise HttpError(f"cannot be reached ({error.strerror})", _CHECK_URL) from None
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        raise Disconnected("closes the connection without an answer") from None
    except (aiohttp.ClientError, OSError) as error:
        raise HttpError(f"does not speak HTTP as expected ({type(error).__name__})", "check its URL") from None
