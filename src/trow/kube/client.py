"""Requests to the API server: few at once, short, small, and each failure in words that say what is wrong there."""

from __future__ import annotations

import asyncio
import re
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp
import msgspec

from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from trow.kube.access import Access

Answer = TypeVar("Answer")

_AT_ONCE: Final = 32
_MOST_BYTES: Final = 1 << 20
_LONGEST_TOKEN: Final = 64 << 10
# RFC 6750, section 2.1: what a bearer token is made of; anything else would be another header.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]+")
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "trow"}


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
        self._token = _Token(access.token)
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._lazy_session: aiohttp.ClientSession | None = None

    async def ask(self, operation: str, path: str, question: msgspec.Struct, answer: type[Answer]) -> Answer:
        """POST something that has no effect, such as a review, and read the answer.

        Raises:
            Unavailable: there is none that can be relied upon.
        """
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._total_seconds), self._gate:
                status, raw = await self._repeatable("POST", path, msgspec.json.encode(question))
        except TimeoutError:
            raise self._trouble(f"does not answer within {self._total_seconds:g} s") from None
        finally:
            if self._observe:
                self._observe(operation, time.monotonic() - began)
        self._check(status, path)
        try:
            return msgspec.json.decode(raw, type=answer)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise self._trouble(f"answers to {path} with something else than {_name(answer)}") from None

    async def close(self) -> None:
        """Let go of all connections."""
        session, self._lazy_session = self._lazy_session, None
        if session is not None:
            await session.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._lazy_session is None:
            # Nothing of the environment (proxies, netrc), no cookies, and sizes are counted as they are sent.
            self._lazy_session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_AT_ONCE, ssl=self._tls or True),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers=_HEADERS,
            )
        return self._lazy_session

    async def _repeatable(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        try:
            return await self._once(method, path, body)
        except _Vanished:
            # The server may have closed a connection that lay unused, just as it was used again.
            pass
        try:
            return await self._once(method, path, body)
        except _Vanished:
            raise self._trouble("closes the connection without an answer") from None

    async def _once(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"} | self._token.header()
        url = self._access.url.rstrip("/") + path
        try:
            async with self._session().request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return response.status, await self._read(response)
        except TimeoutError:
            raise self._trouble(f"cannot be connected to within {self._timeout.sock_connect:g} s") from None
        except aiohttp.ClientConnectorCertificateError as error:
            self._renew_trust()
            why = getattr(error.certificate_error, "verify_message", "")
            raise self._trouble(f"shows a certificate that is not trusted ({why}); check the CA file") from None
        except aiohttp.ClientConnectorError as error:
            raise self._trouble(f"cannot be reached ({error.strerror})") from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            raise _Vanished from None
        except aiohttp.ClientError as error:
            raise self._trouble(f"does not speak HTTP as expected ({type(error).__name__})") from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        read = bytearray()
        async for chunk in response.content.iter_any():
            read += chunk
            if len(read) > _MOST_BYTES:
                response.close()
                raise self._trouble(f"answers with more than {_MOST_BYTES} bytes")
        return bytes(read)

    def _check(self, status: int, path: str) -> None:
        if status in (HTTPStatus.OK, HTTPStatus.CREATED):
            return
        if status == HTTPStatus.UNAUTHORIZED:
            raise self._trouble(
                "does not accept Trow's own credentials (401): give it the token of a ServiceAccount that exists and"
                " bind ClusterRole system:auth-delegator to that"
            )
        if status == HTTPStatus.FORBIDDEN:
            raise self._trouble(
                f"does not let Trow use {path} (403): bind ClusterRole system:auth-delegator to its ServiceAccount"
            )
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise self._trouble("is asked too often (429); try again later")
        raise self._trouble(f"answers to {path} with status {status}")

    def _renew_trust(self) -> None:
        # The authority's file may have been renewed since the start; the next connection shall know.
        try:
            if self._tls is not None:
                self._access.trust(self._tls)
        except (OSError, ValueError):
            raise self._trouble("cannot be verified: the CA file is no longer readable") from None

    def _trouble(self, what: str) -> Unavailable:
        return Unavailable(f"the Kubernetes API server at {self._access.url} {what}")


class _Vanished(Exception):
    """The connection ended before the answer."""


class _Token:
    """A bearer token that is read again when its file has changed: projected tokens rotate."""

    def __init__(self, source: Path | str) -> None:
        self._source = source
        self._seen: tuple[int, int, int] | None = None
        self._header: dict[str, str] = {}
        if isinstance(source, str) and source:
            self._header = self._checked(source, "the configured token")

    def header(self) -> dict[str, str]:
        if isinstance(self._source, Path):
            try:
                self._renew(self._source)
            except OSError as error:
                raise Unavailable(
                    f"Trow's own token cannot be read from {self._source} ({error.strerror}); mount a ServiceAccount's"
                    " token there"
                ) from None
        return self._header

    def _renew(self, path: Path) -> None:
        found = path.stat()
        seen = (found.st_mtime_ns, found.st_ino, found.st_size)
        if seen != self._seen:
            with path.open("rb") as file:
                text = file.read(_LONGEST_TOKEN).decode("ascii", "replace")
            self._header = self._checked(text, str(path))
            self._seen = seen

    @staticmethod
    def _checked(text: str, where: str) -> dict[str, str]:
        token = text.strip()
        if not _TOKEN.fullmatch(token):
            raise Unavailable(f"{where} is no bearer token; have Kubernetes write it anew")
        return {"Authorization": f"Bearer {token}"}


def _name(answer: type[object]) -> str:
    return answer.__name__.strip("_")
