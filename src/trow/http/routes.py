"""The whole surface on one screen: method, path, handler, permission.

``{repository}`` may contain slashes, the others may not. Where two patterns fit, the first counts; the first lines are
those that are asked for most. Whoever may push may attach; what a push does beyond attaching is asked for by its
handler, and the token service identifies and authorises by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from trow.access.rules import Permission
from trow.oci.errors import EndpointUnknown, MethodUnsupported

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from trow.http.handlers.admission import AdmissionHandlers
    from trow.http.handlers.api import Api
    from trow.http.handlers.blobs import BlobHandlers
    from trow.http.handlers.ops import Operations
    from trow.http.handlers.token import TokenService
    from trow.http.handlers.v2 import V2
    from trow.http.request import Request
    from trow.http.response import Answer

# What operators and their machines ask.
PROBES: Final = frozenset({"/healthz", "/readyz", "/readiness", "/metrics"})
Handler: TypeAlias = "Callable[[Request], Awaitable[Answer]]"


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table. A route for GET answers HEAD too."""

    method: str
    path: str
    handler: Handler
    permission: Permission


def table(
    v2: V2, blobs: BlobHandlers, token: TokenService, api: Api, admission: AdmissionHandlers, ops: Operations
) -> tuple[Route, ...]:
    """All routes."""
    return (
        Route("GET", "/v2/{repository}/manifests/{reference}", v2.get_manifest, Permission.PULL),
        Route("GET", "/v2/{repository}/blobs/{digest}", blobs.get, Permission.PULL),
        Route("PATCH", "/v2/{repository}/blobs/uploads/{upload}", blobs.append, Permission.ATTACH),
        Route("PUT", "/v2/{repository}/blobs/uploads/{upload}", blobs.finish, Permission.ATTACH),
        Route("POST", "/v2/{repository}/blobs/uploads/", blobs.begin, Permission.ATTACH),
        Route("POST", "/v2/{repository}/blobs/uploads", blobs.begin, Permission.ATTACH),
        Route("GET", "/v2/", v2.ping, Permission.PING),
        Route("GET", "/v2", v2.ping, Permission.PING),
        Route("GET", "/v2/_catalog", v2.list_repositories, Permission.LIST),
        Route("PUT", "/v2/{repository}/manifests/{reference}", v2.put_manifest, Permission.ATTACH),
        Route("DELETE", "/v2/{repository}/manifests/{reference}", v2.delete_manifest, Permission.DELETE),
        Route("GET", "/v2/{repository}/tags/list", v2.list_tags, Permission.PULL),
        Route("GET", "/v2/{repository}/referrers/{digest}", v2.list_referrers, Permission.PULL),
        Route("GET", "/v2/{repository}/blobs/uploads/{upload}", blobs.status, Permission.ATTACH),
        Route("DELETE", "/v2/{repository}/blobs/uploads/{upload}", blobs.cancel, Permission.ATTACH),
        Route("DELETE", "/v2/{repository}/blobs/{digest}", blobs.delete, Permission.DELETE),
        Route("GET", "/api/v1/repositories", api.repositories, Permission.LIST),
        Route("GET", "/api/v1/repositories/{repository}/tags/{tag}/history", api.tag_history, Permission.PULL),
        Route("GET", "/api/v1/audit", api.audit, Permission.AUDIT),
        Route("POST", "/admission/validate", admission.validate, Permission.OPEN),
        Route("POST", "/admission/mutate", admission.mutate, Permission.OPEN),
        Route("POST", "/admission/reach", admission.reach, Permission.OPEN),
        Route("POST", "/validate-image", admission.validate, Permission.OPEN),
        Route("GET", "/token", token.get, Permission.OPEN),
        Route("POST", "/token", token.post, Permission.OPEN),
        Route("GET", "/", ops.welcome, Permission.OPEN),
        Route("GET", "/healthz", ops.healthz, Permission.OPEN),
        Route("GET", "/readyz", ops.readiness, Permission.OPEN),
        Route("GET", "/readiness", ops.readiness, Permission.OPEN),
        Route("GET", "/metrics", ops.metrics, Permission.OPEN),
    )


_Methods: TypeAlias = "dict[str, Route]"
_PARTS: Final = re.compile(r"([^{]*)(?:\{(\w+)\})?")


class Router:
    """Finds the route of a request."""

    def __init__(self, routes: Sequence[Route]) -> None:
        methods: dict[str, _Methods] = {}
        for route in routes:
            methods.setdefault(route.path, {})[route.method] = route
        self._patterns = [(expression(path).fullmatch, by_method) for path, by_method in methods.items()]

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route and what its pattern found in the path.

        Raises:
            EndpointUnknown: no route has this path.
            MethodUnsupported: one has, with other methods.
        """
        allowed: set[str] = set()
        for pattern, by_method in self._patterns:
            match = pattern(path)
            if match is None:
                continue
            route = by_method.get("GET" if method == "HEAD" else method)
            if route is not None:
                return route, match.groupdict()
            allowed.update(by_method)
        if allowed:
            names = sorted(allowed | ({"HEAD"} if "GET" in allowed else set()))
            raise MethodUnsupported(
                f"this end-point does not take {method}; use {' or '.join(names)}", allowed=tuple(names)
            )
        raise EndpointUnknown(
            "there is no such end-point; use those of a registry, which begin with /v2/, or read on at GET /"
        )


def expression(path: str) -> re.Pattern[str]:
    """What reads a path in which only names in braces vary."""
    text = ""
    for literal, name in _PARTS.findall(path):
        wanted = ".+" if name == "repository" else "[^/]+"
        text += re.escape(literal) + (f"(?P<{name}>{wanted})" if name else "")
    return re.compile(text, re.DOTALL)
