"""Cross-origin requests from browsers, for the origins the operator named (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.http.response import Headers, Response

if TYPE_CHECKING:
    from collections.abc import Collection

    from trow.http.request import Request

_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_HEADERS: Final = "Authorization, Content-Type, Content-Range, Accept, Range, If-None-Match"
_EXPOSED: Final = (
    "Docker-Content-Digest, Docker-Upload-UUID, ETag, Link, Location, OCI-Filters-Applied, OCI-Subject, OCI-Tag, "
    "Range, Retry-After, Warning, WWW-Authenticate"
)
_MAX_AGE_SECONDS: Final = "600"


class Cors:
    """Adds what browsers ask for, for pages of these origins."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)

    def preflight(self, request: Request) -> Response | None:
        """The answer to an OPTIONS request that a browser sends first, None when this is not such a request."""
        if request.method != "OPTIONS" or request.header("access-control-request-method") is None:
            return None
        origin = request.optional_header("origin")
        if origin is None or (origin not in self._origins and "*" not in self._origins):
            return Response(204)
        return Response(
            204,
            [
                ("access-control-allow-methods", _METHODS),
                ("access-control-allow-headers", _HEADERS),
                ("access-control-max-age", _MAX_AGE_SECONDS),
            ],
        )

    def headers(self, request: Request) -> Headers:
        """What to add to every answer, a preflight's too."""
        origin = request.optional_header("origin")
        if origin is None:
            return []
        if origin in self._origins:
            # Credentials go with origins that are named, never with the wildcard.
            return [
                ("access-control-allow-origin", origin),
                ("access-control-allow-credentials", "true"),
                ("access-control-expose-headers", _EXPOSED),
                ("vary", "Origin"),
            ]
        if "*" in self._origins:
            return [("access-control-allow-origin", "*"), ("access-control-expose-headers", _EXPOSED)]
        return [("vary", "Origin")]
