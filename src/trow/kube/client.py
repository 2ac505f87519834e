"""Requests to the API server: few at a time, bounded in time and size, with errors that say what is wrong."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from trow.kube.bearer import BearerToken
from trow.kube.errors import Status, TooLarge, refusal
from trow.lib.http_client import AnswerTooLarge, Disconnected, HttpClient, HttpError, NotTrusted
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from trow.kube.access import ClusterAccess
    from trow.lib.http_client import Answer, OpenAnswer

Reviewed = TypeVar("Reviewed")

_AT_ONCE: Final = 32
_MOST_BYTES: Final = 1 << 20
_DONE: Final = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED)


@dataclass(frozen=True, slots=True)
class KubeRequest:
    """A request to the API server.

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
        access: ClusterAccess,
        *,
        connect_seconds: float = 5.0,
        total_seconds: float = 5.0,
        observe: Callable[[str, float], None] | None = None,
    ) -> None:
        self._access = access
        self._http = HttpClient(
            access.tls(), connect_seconds=connect_seconds, server_name=access.server_name
        )  # the gate counts its connections
        self._total_seconds = total_seconds
        self._observe = observe
        self._token = BearerToken(access.token)
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def ask(self, operation: str, path: str, question: msgspec.Struct, kind: type[Reviewed]) -> Reviewed:
        """POST something that has no effect, such as a review, and read the answer.

        Raises:
            Unavailable: there is none that can be relied upon.
        """
        request = KubeRequest("POST", path, msgspec.json.encode(question))
        answer = await self._exchange(operation, request, self._total_seconds, _MOST_BYTES)
        self._check(answer.status, path)
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise self._unavailable(
                f"answers to {path} with something else than {kind.__name__.strip('_')}; check its URL"
            ) from None

    async def send(self, operation: str, request: KubeRequest, *, seconds: float, most_bytes: int) -> bytes:
        """Send a request, and read the whole answer.

        Args:
            operation: what `observe` is told.
            request: what to do.
            seconds: how long it may take with everything, its wait for others included.
            most_bytes: how large the answer may be.

        Raises:
            KubeRefused: the API server will not do it.
            Unavailable: there is no answer, or the API server has trouble of its own.
            TooLarge: the answer is larger than that.
        """
        answer = await self._exchange(operation, request, seconds, most_bytes)
        if answer.status not in _DONE:
            raise self._failure(request, answer.status, answer.body)
        return answer.body

    @asynccontextmanager
    async def lines(
        self, request: KubeRequest, *, seconds: float, idle_seconds: float, longest: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Read an answer that does not end by itself, line by line; it does not count among the requests at a time.

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
        headers = await self._headers(request)
        try:
            async with self._http.stream(
                request.method, self._url(request), headers=headers, seconds=seconds
            ) as answer:
                if answer.status not in _DONE:
                    raw = await answer.read(_MOST_BYTES, seconds=seconds)
                    raise self._failure(request, answer.status, raw)
                async with aclosing(self._lines_of(answer, idle_seconds, longest)) as lines:
                    yield lines
        except HttpError as error:
            raise self._unanswered(error) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def _exchange(self, operation: str, request: KubeRequest, seconds: float, most_bytes: int) -> Answer:
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds), self._gate:
                return await self._answer(request, seconds, most_bytes)
        except TimeoutError:
            raise self._unavailable(f"does not answer within {seconds:g} s; try again later") from None
        except HttpError as error:
            raise self._unanswered(error) from None
        finally:
            if self._observe:
                self._observe(operation, time.monotonic() - began)

    async def _answer(self, request: KubeRequest, seconds: float, most_bytes: int) -> Answer:
        async def once() -> Answer:
            headers = await self._headers(request)
            return await self._http.request(
                request.method,
                self._url(request),
                headers=headers,
                body=request.body,
                seconds=seconds,
                most_bytes=most_bytes,
            )

        try:
            return await once()
        except Disconnected as error:
            # The server may have closed a connection that lay unused, just as it was used again.
            if not request.repeatable:
                raise self._unavailable(f"{error} and may have done {request} or not; see whether it has") from None
        return await once()

    def _url(self, request: KubeRequest) -> str:
        return self._access.url.rstrip("/") + request.path

    async def _headers(self, request: KubeRequest) -> dict[str, str]:
        content = {"Content-Type": request.content_type} if request.body else {}
        return {"Accept": "application/json", **await self._token.header(), **content}

    async def _lines_of(self, answer: OpenAnswer, idle_seconds: float, longest: int) -> AsyncGenerator[bytes, None]:
        now = asyncio.get_running_loop().time
        line, deadline = bytearray(), now() + idle_seconds
        while chunk := await answer.chunk(seconds=deadline - now()):
            first, *others = chunk.split(b"\n")
            line += first
            for other in others:
                yield bytes(line)
                line, deadline = bytearray(other), now() + idle_seconds
            if len(line) > longest:
                raise TooLarge(
                    self._sentence(f"writes a line of more than {longest} bytes; see what makes the object that large")
                )

    def _unanswered(self, error: HttpError) -> Unavailable:
        if isinstance(error, NotTrusted) and self._http.tls is not None:
            # The authority's file may have been renewed since the start: read it again for the next connection.
            try:
                self._access.trust(self._http.tls)
            except (OSError, ValueError):
                return self._unavailable("cannot be verified: the CA file is no longer readable; put it back")
        what = f"{error}; {error.fix}"
        return TooLarge(self._sentence(what)) if isinstance(error, AnswerTooLarge) else self._unavailable(what)

    def _check(self, status: int, path: str) -> None:
        if status in (HTTPStatus.OK, HTTPStatus.CREATED):
            return
        if status == HTTPStatus.UNAUTHORIZED:
            raise self._unavailable(
                "does not accept Trow's own credentials (401); give it the token of a ServiceAccount that exists and"
                " bind ClusterRole system:auth-delegator to that"
            )
        if status == HTTPStatus.FORBIDDEN:
            raise self._unavailable(
                f"does not let Trow use {path} (403); bind ClusterRole system:auth-delegator to its ServiceAccount"
            )
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise self._unavailable("is asked too often (429); try again later")
        raise self._unavailable(f"answers to {path} with status {status}; see its log, and try again later")

    def _failure(self, request: KubeRequest, code: int, raw: bytes) -> Exception:
        status = Status.parse(raw)
        if refused := refusal(str(request), code, status):
            return refused
        if code == HTTPStatus.UNAUTHORIZED:
            return self._unavailable(
                "does not accept Trow's own credentials (401); give it the token of a ServiceAccount that exists"
            )
        said = f": {status.words()}" if status.message else ""
        return self._unavailable(f"answers {request} with status {code}{said}; see its log, and try again later")

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(self._sentence(what))

    def _sentence(self, what: str) -> str:
        return f"the Kubernetes API server at {self._access.url} {what}"
