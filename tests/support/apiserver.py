"""A server on loopback that answers reviews and questions about objects as a test says: slowly, wrongly, or not at all.

What a real API server answers is asked of a real one (tests/kubernetes); this is for what it would not do on demand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import uvloop
from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType


@dataclass(frozen=True)
class Answer:
    """What is sent back: JSON, or a body as it is."""

    body: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        raw = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return web.Response(body=raw, status=self.status, headers={"Content-Type": "application/json"} | self.headers)


class Loopback:
    """An HTTP server in a thread: `with Loopback.start() as server:`.

    Attributes:
        delay: seconds until each answer.
        broken: connections end without an answer.
        requests: what was asked, by path.
        busy: how many requests are here.
        busiest: the most there were at once.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.delay = 0.0
        self.broken = False
        self.requests: Counter[str] = Counter()
        self.busiest = 0
        self.busy = 0
        self._tls = tls
        # The loop of asyncio forgets a connection that was accepted just as the server ended.
        self._loop = uvloop.new_event_loop()
        self._release = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._port = 0
        self._runner: web.ServerRunner | None = None

    @classmethod
    def start(cls, tls: ssl.SSLContext | None = None) -> Self:
        server = cls(tls)
        server._thread.start()
        server.up()
        return server

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def up(self) -> None:
        """Serve, at the same port as before."""
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(20)

    def down(self) -> None:
        """End all connections; new ones are refused."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(20)

    def stop(self) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def answer(self, path: str, document: Any, headers: dict[str, str]) -> Answer:
        """What to answer to a request."""
        raise NotImplementedError

    async def respond(self, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        """The whole answer to a request with its body."""
        return (await self.answer(request.path, json.loads(raw) if raw else None, dict(request.headers))).response()

    async def until_down(self, seconds: float | None = None) -> None:
        """As long as the server is up, or for some seconds; it ends with the server, so that no test waits for it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._release.wait(), seconds)

    async def _serve(self) -> None:
        self._release.clear()
        self._runner = web.ServerRunner(web.Server(self._handle, handler_cancellation=True), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _end(self) -> None:
        self._release.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests[request.path] += 1
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            return await self._answered(request)
        finally:
            self.busy -= 1

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        if self.delay:
            await self.until_down(self.delay)
        if self.broken and request.transport:
            request.transport.abort()
        return await self.respond(request, raw)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class ApiServer(Loopback):
    """Answers reviews with `reply`, which gets the kind of review and its spec.

    Attributes:
        reply: makes an `Answer`, or a status for an answer that is otherwise as it should be.
        specs: what was asked.
        authorizations: how.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.reply: Callable[[str, dict[str, Any]], Answer | dict[str, Any]] = lambda kind, spec: {"allowed": False}
        self.specs: list[dict[str, Any]] = []
        self.authorizations: list[str] = []

    async def answer(self, path: str, document: Any, headers: dict[str, str]) -> Answer:
        self.specs.append(document["spec"])
        self.authorizations.append(headers.get("Authorization", ""))
        replied = self.reply(document["kind"], document["spec"])
        return replied if isinstance(replied, Answer) else Answer({**document, "status": replied}, status=201)


@dataclass(frozen=True)
class Asked:
    """A request about objects."""

    method: str
    path: str
    query: dict[str, str]
    content_type: str
    body: Any

    @property
    def watch(self) -> bool:
        return "watch" in self.query


@dataclass(frozen=True)
class Lines:
    """An answer that goes on: what is written, each a chunk, and after some seconds `end`, `stay` or `break`."""

    chunks: tuple[bytes, ...] = ()
    ending: str = "end"
    seconds: float = 0.0

    @classmethod
    def of(cls, *events: dict[str, Any], ending: str = "end", seconds: float = 0.0) -> Lines:
        return cls(tuple(json.dumps(event).encode() + b"\n" for event in events), ending, seconds)


class ObjectServer(Loopback):
    """Answers requests about objects with `reply`.

    Attributes:
        asked: what was asked.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.reply: Callable[[Asked], Answer | Lines] = lambda asked: Answer({}, 404)
        self.asked: list[Asked] = []

    async def respond(self, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        media, body = request.headers.get("Content-Type", ""), json.loads(raw) if raw else None
        asked = Asked(request.method, request.path, dict(request.query), media, body)
        self.asked.append(asked)
        replied = self.reply(asked)
        return replied.response() if isinstance(replied, Answer) else await self._write(request, replied)

    async def _write(self, request: web.BaseRequest, lines: Lines) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for chunk in lines.chunks:
            await response.write(chunk)
        if lines.ending == "stay" or lines.seconds:
            await self.until_down(None if lines.ending == "stay" else lines.seconds)
        if lines.ending == "break" and request.transport:
            request.transport.abort()
        return response
