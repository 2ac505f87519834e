"""Requests to the API server: few at once, short, small, and each failure in words that say what is wrong there."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp
import msgspec

from trow.kube.bearer import BearerToken
from trow.kube.errors import Status, TooLarge, refusal
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from trow.kube.access import Access

Answer = TypeVar("Answer")

_AT_ONCE: Final = 32
_MOST_BYTES: Final = 1 << 20
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "trow"}
_DONE: Final = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the API server.

    Attributes:
        path: with its query, as it is written in a URL.
        repeatable: whether it does no harm twice.
    """

    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"
    repeatable: bool = True

    def __str__(self) -> str:
        """For people, without the query."""
        return f"{self.method} {self.path.partition('?')[0]}"


class KubeClient:
    """Asks one API server. Made anywhere, used on one event loop.

    Args:
        connect_seconds: how long a connection may take.
        total_seconds: how long a request may take with everything, its wait for others included.
        observe: told of each request's kind and seconds.

    Raises:
        AccessError: a certificate or key of ``access`` cannot be used.
    """

    def __init__(
        self,
        access: Access,
        *,
        connect_seconds: float = 5.0,
        total_seconds: float = 5.0,
        observe: Callable[[str, float], None] | None = None,
    ) -> None:
        self._access = access
        self._tls = access.tls()
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds)
        self._total_seconds = total_seconds
        self._observe = observe
        self._token = BearerToken(access.token)
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._lazy_session: aiohttp.ClientSession | None = None

    async def ask(self, operation: str, path: str, question: msgspec.Struct, answer: type[Answer]) -> Answer:
        """POST something that has no effect, such as a review, and read the answer.

        Raises:
            Unavailable: there is none that can be relied upon.
        """
        request = Request("POST", path, msgspec.json.encode(question))
        status, raw = await self._exchange(operation, request, self._total_seconds, _MOST_BYTES)
        self._check(status, path)
        try:
            return msgspec.json.decode(raw, type=answer)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise self._trouble(f"answers to {path} with something else than {_name(answer)}; check its URL") from None

    async def send(self, operation: str, request: Request, *, seconds: float, most_bytes: int) -> bytes:
        """Have a request done, and read what it is answered.

        Args:
            operation: what `observe` is told.
            request: what to do.
            seconds: how long it may take with everything, its wait for others included.
            most_bytes: how large the answer may be.

        Raises:
            KubeRefused: the API server will not do it.
            Unavailable: there is no answer, or the API server has troubles of its own.
            TooLarge: the answer is larger than that.
        """
        status, raw = await self._exchange(operation, request, seconds, most_bytes)
        if status not in _DONE:
            raise self._failure(request, status, raw)
        return raw

    @asynccontextmanager
    async def lines(
        self, request: Request, *, seconds: float, idle_seconds: float, longest: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Have an answer that goes on and on, line by line, beside the requests that are counted.

        Args:
            request: a GET.
            seconds: how long it may take until the answer begins.
            idle_seconds: how long it may take until the next line is complete.
            longest: bytes of a line.

        Raises:
            KubeRefused: the API server will not do it.
            Unavailable: there is no answer, it is silent for too long, or it breaks off.
            TooLarge: a line is longer than that.
        """
        async with AsyncExitStack() as stack:
            response = await self._opened(stack, request, seconds)
            async with aclosing(self._lines_of(response, idle_seconds, longest)) as lines:
                yield lines

    async def close(self) -> None:
        """Let go of all connections."""
        session, self._lazy_session = self._lazy_session, None
        if session is not None:
            await session.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._lazy_session is None:
            # Nothing of the environment (proxies, netrc), no cookies, and sizes are counted as they are sent.
            self._lazy_session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls or True),  # the gate counts
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers=_HEADERS,
            )
        return self._lazy_session

    async def _exchange(self, operation: str, request: Request, seconds: float, most_bytes: int) -> tuple[int, bytes]:
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds), self._gate:
                return await self._answer(request, most_bytes)
        except TimeoutError:
            raise self._trouble(f"does not answer within {seconds:g} s; try again later") from None
        finally:
            if self._observe:
                self._observe(operation, time.monotonic() - began)

    async def _answer(self, request: Request, most_bytes: int) -> tuple[int, bytes]:
        try:
            return await self._once(request, most_bytes)
        except _Vanished:
            # The server may have closed a connection that lay unused, just as it was used again.
            if not request.repeatable:
                raise self._trouble(
                    f"closes the connection and may have done {request} or not; see whether it has"
                ) from None
        try:
            return await self._once(request, most_bytes)
        except _Vanished:
            raise self._trouble("closes the connection without an answer; try again later") from None

    async def _once(self, request: Request, most_bytes: int) -> tuple[int, bytes]:
        with self._in_words():
            async with await self._asked(request) as response:
                return response.status, await self._read(response, most_bytes)

    async def _opened(self, stack: AsyncExitStack, request: Request, seconds: float) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(seconds):
                with self._in_words():
                    response = await stack.enter_async_context(await self._asked(request))
                    stack.callback(_abort, response)
                    if response.status not in _DONE:
                        raw = await self._read(response, _MOST_BYTES)
                        raise self._failure(request, response.status, raw)
        except TimeoutError:
            raise self._trouble(f"does not answer within {seconds:g} s; try again later") from None
        except _Vanished:
            raise self._trouble("closes the connection without an answer; try again later") from None
        return response

    async def _asked(self, request: Request) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = await self._token.header() | ({"Content-Type": request.content_type} if request.body else {})
        url = self._access.url.rstrip("/") + request.path
        return self._session().request(
            request.method, url, data=request.body or None, headers=headers, allow_redirects=False
        )

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise self._trouble(
                f"cannot be connected to within {self._timeout.sock_connect:g} s; check its URL and the way to it"
            ) from None
        except aiohttp.ClientConnectorCertificateError as error:
            self._renew_trust()
            why = getattr(error.certificate_error, "verify_message", "")
            raise self._trouble(f"shows a certificate that is not trusted ({why}); check the CA file") from None
        except aiohttp.ClientConnectorError as error:
            raise self._trouble(f"cannot be reached ({error.strerror}); check its URL and the way to it") from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            raise _Vanished from None
        except aiohttp.ClientError as error:
            raise self._trouble(f"does not speak HTTP as expected ({type(error).__name__}); check its URL") from None

    async def _read(self, response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
        read = bytearray()
        async for chunk in response.content.iter_any():
            read += chunk
            if len(read) > most_bytes:
                response.close()
                raise TooLarge(
                    self._sentence(f"answers with more than {most_bytes} bytes; see what makes the answer that large")
                )
        return bytes(read)

    async def _lines_of(
        self, response: aiohttp.ClientResponse, idle_seconds: float, longest: int
    ) -> AsyncGenerator[bytes, None]:
        now = asyncio.get_running_loop().time
        line, deadline = bytearray(), now() + idle_seconds
        while chunk := await self._chunk(response, deadline):
            first, *others = chunk.split(b"\n")
            line += first
            for other in others:
                yield bytes(line)
                line, deadline = bytearray(other), now() + idle_seconds
            if len(line) > longest:
                raise TooLarge(
                    self._sentence(f"writes a line of more than {longest} bytes; see what makes the object that large")
                )

    async def _chunk(self, response: aiohttp.ClientResponse, deadline: float) -> bytes:
        """What comes next, b"" at the end."""
        try:
            async with asyncio.timeout_at(deadline):
                return await response.content.readany()
        except TimeoutError:
            raise self._trouble("has been silent for too long; try again later") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._trouble(f"breaks off its answer ({type(error).__name__}); try again later") from None

    def _check(self, status: int, path: str) -> None:
        if status in (HTTPStatus.OK, HTTPStatus.CREATED):
            return
        if status == HTTPStatus.UNAUTHORIZED:
            raise self._trouble(
                "does not accept Trow's own credentials (401); give it the token of a ServiceAccount that exists and"
                " bind ClusterRole system:auth-delegator to that"
            )
        if status == HTTPStatus.FORBIDDEN:
            raise self._trouble(
                f"does not let Trow use {path} (403); bind ClusterRole system:auth-delegator to its ServiceAccount"
            )
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise self._trouble("is asked too often (429); try again later")
        raise self._trouble(f"answers to {path} with status {status}; see its log, and try again later")

    def _failure(self, request: Request, code: int, raw: bytes) -> Exception:
        status = Status.parse(raw)
        if refused := refusal(str(request), code, status):
            return refused
        if code == HTTPStatus.UNAUTHORIZED:
            return self._trouble(
                "does not accept Trow's own credentials (401); give it the token of a ServiceAccount that exists"
            )
        said = f": {status.words()}" if status.message else ""
        return self._trouble(f"answers {request} with status {code}{said}; see its log, and try again later")

    def _renew_trust(self) -> None:
        # The authority's file may have been renewed since the start; the next connection shall know.
        try:
            if self._tls is not None:
                self._access.trust(self._tls)
        except (OSError, ValueError):
            raise self._trouble("cannot be verified: the CA file is no longer readable; put it back") from None

    def _trouble(self, what: str) -> Unavailable:
        return Unavailable(self._sentence(what))

    def _sentence(self, what: str) -> str:
        return f"the Kubernetes API server at {self._access.url} {what}"


class _Vanished(Exception):
    """The connection ended before the answer."""


def _abort(response: aiohttp.ClientResponse) -> None:
    """End the connection of an answer that has not come to its end, without waiting for a farewell."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def _name(answer: type[object]) -> str:
    return answer.__name__.strip("_")
