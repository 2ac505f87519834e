"""Asks a client for credentials when they are missing or do not suffice."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from trow.access.permissions import LISTS, Permission
from trow.http.hosts import parse_host
from trow.oci.errors import RequestInvalid

if TYPE_CHECKING:
    from trow.http.request import Request

# What a token has to carry, in the words of the token service (distribution, "Token Scope Documentation").
_SCOPES: Final = {
    Permission.PULL: "pull",
    Permission.PUSH: "pull,push",
    Permission.ATTACH: "pull,push",
    Permission.TAG_OVERWRITE: "pull,push",
    Permission.DELETE: "delete",
}
BASIC: Final = 'Basic realm="Trow", charset="UTF-8"'


class Challenge:
    """Makes the ``WWW-Authenticate`` header (RFC 6750, section 3).

    Args:
        bearer: whether clients are sent to the token service; otherwise they need a password.
        public_url: where clients reach this registry; "" takes it from each request. Runtimes that were led to an
            address of a node or a Service are sent back there: they may find no name of this registry.
        service: the name of this registry in its tokens.
    """

    def __init__(self, *, bearer: bool, public_url: str, service: str) -> None:
        self._bearer = bearer
        self._public_url = public_url
        self._service = service

    def to(self, request: Request) -> str:
        """The challenge for this request. If the address of the token service is not known, it asks for a password."""
        peer = request.peer
        here = f"{peer.scheme}://{peer.host}" if peer.host else ""
        address = here if _is_led_here(request) else self._public_url or here
        if not self._bearer or request.path == "/token" or not address:
            return BASIC
        parts = [f'realm="{address}/token"', f'service="{self._service}"']
        permission = request.route.permission if request.route else Permission.PING
        if request.repository and permission in _SCOPES:
            parts.append(f'scope="repository:{request.repository}:{_SCOPES[permission]}"')
        elif permission in LISTS:
            parts.append(f'scope="registry:{LISTS[permission]}:*"')
        if request.identity.delegation is not None:
            parts.append('error="insufficient_scope"')
        return f"Bearer {','.join(parts)}"


def _is_led_here(request: Request) -> bool:
    """Whether containerd names another host as the image's, and asks by an address that is not a proxy's for us.

    https://github.com/containerd/containerd/blob/main/docs/hosts.md#registry-host-namespace
    """
    host = parse_host(request.peer.host)
    try:
        address = ipaddress.ip_address(host.name if host else "")
        return not address.is_loopback and any(request.query_raw("ns"))
    except (ValueError, RequestInvalid):
        return False
