"""The whole surface on one screen: method, path, permission, what is recorded, handler.

``{repository}`` may contain slashes, the others may not. Where two patterns fit, the first counts; the
busiest routes come first. The right to push includes the right to attach; the handler of a push requires what it does
beyond attaching, and the token service identifies and authorises by itself. The last column names the
listeners that serve a row, where it is not the registry's alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Flag, auto
from typing import TYPE_CHECKING, Final, TypeAlias

from trow.access.permissions import Permission
from trow.http.route import Route, Unrecorded
from trow.oci.errors import EndpointUnknown, MethodUnsupported
from trow.registry.events import Action

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

Handler: TypeAlias = "Callable[[Request], Awaitable[Answer]]"


_PULL: Final = frozenset({Action.PULL, Action.PULL_BEGIN})
_FINISH: Final = frozenset({Action.PUSH})
_BLOB: Final = frozenset({Action.PUSH, Action.MOUNT})
_MANIFEST: Final = frozenset({Action.PUSH, Action.TAG_MOVE})
_DELETE: Final = frozenset({Action.MANIFEST_DELETE, Action.TAG_DELETE})
_UNLINK: Final = frozenset({Action.BLOB_DELETE})
_READ: Final = frozenset({Action.AUDIT_READ})
_LIST: Final = frozenset({Action.LIST})
_LOGIN: Final = frozenset({Action.LOGIN})
_TOKEN: Final = frozenset({Action.LOGIN, Action.TOKEN_ISSUE})
_REVIEW: Final = frozenset({Action.ADMISSION})
_UPLOAD: Final = Unrecorded("nobody sees the bytes of an upload before it is finished, and that is recorded")
_PROBE: Final = Unrecorded("it tells nothing of what the registry holds, or of who asks")


class Listener(Flag):
    """Listeners that serve a part of the table each: that of clients, of operators, of API servers."""

    REGISTRY = auto()
    PROBES = auto()
    WEBHOOKS = auto()
    ALL = REGISTRY | PROBES | WEBHOOKS


@dataclass(frozen=True, slots=True)
class Endpoint(Route):
    """A route, what answers it, and which listeners serve it."""

    handler: Handler
    listeners: Listener = Listener.REGISTRY


def table(
    v2: V2, blobs: BlobHandlers, token: TokenService, api: Api, admission: AdmissionHandlers, ops: Operations
) -> tuple[Endpoint, ...]:
    """All routes."""
    return (
        Endpoint("GET", "/v2/{repository}/manifests/{reference}", Permission.PULL, _PULL, v2.get_manifest),
        Endpoint("GET", "/v2/{repository}/blobs/{digest}", Permission.PULL, _PULL, blobs.get),
        Endpoint("PATCH", "/v2/{repository}/blobs/uploads/{upload}", Permission.ATTACH, _UPLOAD, blobs.append),
        Endpoint("PUT", "/v2/{repository}/blobs/uploads/{upload}", Permission.ATTACH, _FINISH, blobs.finish),
        Endpoint("POST", "/v2/{repository}/blobs/uploads/", Permission.ATTACH, _BLOB, blobs.begin),
        Endpoint("POST", "/v2/{repository}/blobs/uploads", Permission.ATTACH, _BLOB, blobs.begin),
        Endpoint("GET", "/v2/", Permission.PING, _LOGIN, v2.ping),
        Endpoint("GET", "/v2", Permission.PING, _LOGIN, v2.ping),
        Endpoint("GET", "/v2/_catalog", Permission.LIST, _LIST, v2.list_repositories),
        Endpoint("PUT", "/v2/{repository}/manifests/{reference}", Permission.ATTACH, _MANIFEST, v2.put_manifest),
        Endpoint("DELETE", "/v2/{repository}/manifests/{reference}", Permission.DELETE, _DELETE, v2.delete_manifest),
        Endpoint("GET", "/v2/{repository}/tags/list", Permission.PULL, _LIST, v2.list_tags),
        Endpoint("GET", "/v2/{repository}/referrers/{digest}", Permission.PULL, _LIST, v2.list_referrers),
        Endpoint("GET", "/v2/{repository}/blobs/uploads/{upload}", Permission.ATTACH, _UPLOAD, blobs.status),
        Endpoint("DELETE", "/v2/{repository}/blobs/uploads/{upload}", Permission.ATTACH, _UPLOAD, blobs.cancel),
        Endpoint("DELETE", "/v2/{repository}/blobs/{digest}", Permission.DELETE, _UNLINK, blobs.delete),
        Endpoint("GET", "/api/v1/repositories", Permission.LIST, _LIST, api.repositories),
        Endpoint("GET", "/api/v1/repositories/{repository}/tags/{tag}/history", Permission.PULL, _LIST, api.history),
        Endpoint("GET", "/api/v1/audit", Permission.AUDIT, _READ, api.audit),
        Endpoint("GET", "/api/v1/nodes", Permission.ADMIN, _LIST, api.nodes),
        Endpoint("POST", "/admission/validate", Permission.OPEN, _REVIEW, admission.validate, Listener.WEBHOOKS),
        Endpoint("POST", "/admission/mutate", Permission.OPEN, _REVIEW, admission.mutate, Listener.WEBHOOKS),
        Endpoint("POST", "/admission/reach", Permission.OPEN, _PROBE, admission.reach, Listener.WEBHOOKS),
        Endpoint("POST", "/validate-image", Permission.OPEN, _REVIEW, admission.validate, Listener.WEBHOOKS),
        Endpoint("GET", "/token", Permission.OPEN, _TOKEN, token.get),
        Endpoint("POST", "/token", Permission.OPEN, _TOKEN, token.post),
        Endpoint("GET", "/", Permission.OPEN, _PROBE, ops.welcome),
        Endpoint("GET", "/healthz", Permission.OPEN, _PROBE, ops.healthz, Listener.ALL),
        Endpoint("GET", "/readyz", Permission.OPEN, _PROBE, ops.readyz, Listener.ALL),
        Endpoint("GET", "/readiness", Permission.OPEN, _PROBE, ops.readyz, Listener.ALL),
        Endpoint("GET", "/metrics", Permission.OPEN, _PROBE, ops.metrics, Listener.REGISTRY | Listener.PROBES),
    )


_Methods: TypeAlias = "dict[str, Endpoint]"
_PARTS: Final = re.compile(r"([^{]*)(?:\{(\w+)\})?")


class Router:
    """Finds the route of a request.

    Attributes:
        probes: the paths of what operators ask.
    """

    def __init__(self, routes: Sequence[Endpoint]) -> None:
        self.probes = frozenset(route.path for route in routes if Listener.PROBES in route.listeners)
        methods: dict[str, _Methods] = {}
        for route in routes:
            methods.setdefault(route.path, {})[route.method] = route
        self._patterns = [(expression(path).fullmatch, by_method) for path, by_method in methods.items()]

    def find(self, method: str, path: str) -> tuple[Endpoint, Mapping[str, str]]:
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
                f"this endpoint does not take {method}; use {' or '.join(names)}", allowed=tuple(names)
            )
        raise EndpointUnknown(
            "there is no such endpoint; use those of a registry, which begin with /v2/, or read GET /"
        )


def expression(path: str) -> re.Pattern[str]:
    """What reads a path in which only names in braces vary."""
    text = ""
    for literal, name in _PARTS.findall(path):
        wanted = ".+" if name == "repository" else "[^/]+"
        text += re.escape(literal) + (f"(?P<{name}>{wanted})" if name else "")
    return re.compile(text, re.DOTALL)
