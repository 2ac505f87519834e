"""From a request to an answer: limit, route, identify, authorise and handle it, and turn errors into answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from trow.access.permissions import Permission
from trow.http import errors
from trow.http.connections import SMALL
from trow.http.handlers.v2 import warning
from trow.http.request import LONGEST_PATH, Request
from trow.http.response import Response, StreamResponse
from trow.oci.errors import Denied, OciError, Unauthorized, Unavailable
from trow.oci.names import Repository

if TYPE_CHECKING:
    from trow.http.access import AccessController
    from trow.http.accesslog import AccessLog
    from trow.http.connections import Activity, Connections
    from trow.http.cors import Cors
    from trow.http.limits import RateLimit
    from trow.http.metrics import Metrics
    from trow.http.pace import Pace
    from trow.http.peers import Peers
    from trow.http.request import Scope, Transport
    from trow.http.response import Answer, Headers
    from trow.http.routes import Router
    from trow.http.sites import Sites

log = logging.getLogger(__name__)

_API_VERSION: Final = ("docker-distribution-api-version", "registry/2.0")
# An unwanted body is read up to here: a client that is still sending would not see the answer otherwise.
_DRAIN_BYTES: Final = 8 * 1024 * 1024
_DRAIN_SECONDS: Final = 2.0
# A disk that does not answer is not waited for.
_CUT_OFF_SECONDS: Final = 5.0
_NO_ROUTE: Final = "(none)"


class Dispatcher:
    """Answers every request of a listener.

    Args:
        bounded: whether answers count towards the limits of clients. Operators are answered in any case.
    """

    def __init__(  # noqa: PLR0913 - the composition root's one call
        self,
        router: Router,
        access: AccessController,
        peers: Peers,
        *,
        connections: Connections,
        metrics: Metrics,
        rate_limit: RateLimit | None,
        cors: Cors | None,
        sites: Sites,
        access_log: AccessLog | None,
        pace: Pace,
        notice: str,
        bounded: bool = True,
    ) -> None:
        self._router = router
        self._access = access
        self._peers = peers
        self._connections = connections
        self._metrics = metrics
        self._rate_limit = rate_limit
        self._cors = cors
        self._sites = sites
        self._access_log = access_log
        self._pace = pace
        self._bounded = bounded
        self._running: set[asyncio.Task[None]] = set()
        self._v2_headers: Headers = [_API_VERSION, *([("warning", warning(notice))] if notice else [])]

    async def __rsgi__(self, scope: Scope, transport: Transport) -> None:
        """Answer one request (RSGI)."""
        started = time.perf_counter()
        try:
            request = Request(scope, transport, self._peers, self._pace)
        except OciError as error:
            errors.to_response(error).send(transport, head=scope.method == "HEAD")
            return
        activity = self._connections.begin(request.connection, http2=scope.http_version == "2")
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - the server runs each request as one
        self._running.add(task)
        try:
            try:
                answer = await self._answer(request, activity)
                if request.path.startswith("/v2"):
                    answer.headers.extend(self._v2_headers)
                answer.headers.append(("x-request-id", request.number))
                if self._cors is not None:
                    answer.headers.extend(self._cors.headers(request))
                answer.send(transport, head=request.method == "HEAD")
                self._log(request, answer, time.perf_counter() - started)
            finally:
                self._connections.end(activity)
            if isinstance(answer, StreamResponse):
                try:
                    with contextlib.suppress(asyncio.CancelledError):  # a stop ends it
                        await answer.feed()
                except OciError:
                    log.exception("a blob was cut off, because its store failed", extra={"request": request.number})
        finally:
            self._running.discard(task)

    async def cut_off(self) -> None:
        """End the requests under way, while what they need for that is still there: files, threads, the database."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=_CUT_OFF_SECONDS)

    async def _answer(self, request: Request, activity: Activity) -> Answer:
        # Operators are answered at once, beside the requests that are counted.
        counted = self._bounded and not (request.path in self._router.probes and request.method in ("GET", "HEAD"))
        try:
            if counted:
                self._connections.enter(request.client)
        except OciError as error:
            return errors.to_response(error)
        try:
            return await self._admitted(request, activity)
        except asyncio.CancelledError:  # it is cut off: the client learns that, and it is not an error
            return errors.to_response(Unavailable("the registry stops; try again in a moment"))
        except Exception:
            number = request.number
            extra = {"request": number, "method": request.method, "path": request.path[:LONGEST_PATH]}
            log.exception("request failed", extra=extra)
            message = f"the request failed inside the registry; report it with the log lines of request {number}"
            return errors.to_response(OciError(message, {"request": number}))
        finally:
            if counted:
                self._connections.leave(request.client)

    async def _admitted(self, request: Request, activity: Activity) -> Answer:
        try:
            if self._bounded:
                self._connections.check(activity, request.client)
            answer = await self._handle(request)
            if request.has_unread_body:
                await self._drain(request)
            if self._bounded and (answer.length > SMALL or activity.http2) and request.method != "HEAD":
                in_memory = isinstance(answer, Response)
                await self._connections.reserve(activity, request.client, answer.length, memory=in_memory)
        except OciError as error:
            if isinstance(error, Unauthorized | Denied):
                request.refusal = error.message
            if request.has_unread_body:
                await self._drain(request)
            challenge = self._access.challenge.to(request) if isinstance(error, Unauthorized) else ""
            return errors.to_response(error, challenge=challenge, path=request.path)
        return answer

    async def _handle(self, request: Request) -> Answer:
        if self._rate_limit is not None:
            self._rate_limit.take(request.client)
        request.require_unambiguous()
        if self._cors is not None and (preflight := self._cors.preflight(request)) is not None:
            return preflight
        self._sites.check(request)
        request.route, request.parameters = endpoint, _ = self._router.find(request.method, request.path)
        if endpoint.permission is not Permission.OPEN:
            name = request.parameters.get("repository")
            if name is not None:
                request.repository = Repository.parse(name)
            await self._access.admit(request, endpoint.permission)
        return await endpoint.handler(request)

    @staticmethod
    async def _drain(request: Request) -> None:
        most = request.received + _DRAIN_BYTES
        with contextlib.suppress(OciError, TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                async for _ in request.body():
                    if request.received > most:
                        return

    def _log(self, request: Request, answer: Answer, seconds: float) -> None:
        sent = 0 if request.method == "HEAD" else answer.length
        # Without a route path and method are whatever a client makes up: no labels for these.
        path, method = (request.route.path, request.method) if request.route else (_NO_ROUTE, _NO_ROUTE)
        self._metrics.request(path, method, answer.status, seconds, request.received, sent)
        if self._access_log is not None:
            self._access_log.request(request, answer.status, sent, seconds)
