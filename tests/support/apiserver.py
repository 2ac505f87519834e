"""A server on loopback that answers reviews as a test says: slowly, wrongly, or not at all.

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
        busiest: the most requests that were here at once.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.delay = 0.0
        self.broken = False
        self.requests: Counter[str] = Counter()
        self.busiest = 0
        self._busy = 0
        self._tls = tls
        self._loop = asyncio.new_event_loop()
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

    async def _serve(self) -> None:
        self._release.clear()
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
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
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        try:
            return await self._answered(request)
        finally:
            self._busy -= 1

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        if self.delay:
            # Ends early when the server does, so that no test waits for it.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._release.wait(), self.delay)
        if self.broken and request.transport:
            request.transport.abort()
        answer = await self.answer(request.path, json.loads(raw) if raw else None, dict(request.headers))
        return answer.response()

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
