"""What operators ask: is it alive, is it ready, how much does it do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from trow.http.metrics import CONTENT_TYPE
from trow.http.response import Response, json_response
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from trow.http.metrics import Metrics
    from trow.http.request import Request


_WELCOME: Final = b"""\
This is Trow, a registry of container images.

  docker push HOST/NAME:TAG      put an image here; HOST is the name that you have come by
  docker pull HOST/NAME:TAG      get it
  docker login HOST              where this registry asks who you are

Programs begin at /v2/ (OCI Distribution Specification). /healthz, /readyz and /metrics are for operators.
The guides are in the folder docs of the sources; `trow --help` explains the program.
"""


class Operations:
    """Handlers.

    Args:
        checks: what has to work before clients should send requests; each raises `Unavailable` when it does not.
    """

    def __init__(self, checks: Mapping[str, Callable[[], Awaitable[None]]], metrics: Metrics) -> None:
        self._checks = checks
        self._metrics = metrics
        self._checking: asyncio.Task[dict[str, str]] | None = None

    async def welcome(self, request: Request) -> Response:
        """Tell a person who opens the address in a browser what this is."""
        del request
        return Response(200, [("content-type", "text/plain; charset=utf-8")], _WELCOME)

    async def healthz(self, request: Request) -> Response:
        """The process answers."""
        del request
        return json_response(200, {"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Storage and database take reads and writes. They are tried once for all who ask at the same time."""
        del request
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._results())
        results = await asyncio.shield(self._checking)
        ready = all(result == "ok" for result in results.values())
        return json_response(200 if ready else 503, {"status": "ok" if ready else "unavailable", "checks": results})

    async def _results(self) -> dict[str, str]:
        results = dict.fromkeys(self._checks, "ok")
        for name, check in self._checks.items():
            try:
                await check()
            except Unavailable as error:
                results[name] = error.message
        return results

    async def metrics(self, request: Request) -> Response:
        """Numbers for Prometheus."""
        del request
        return Response(200, [("content-type", CONTENT_TYPE)], await self._metrics.recent())
