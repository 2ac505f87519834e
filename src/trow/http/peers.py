"""Who is at the other end: the client behind trusted proxies, or behind our own listener for client certificates."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
from typing import TYPE_CHECKING

from trow.http import forwarded
from trow.http.framing import authority_of
from trow.http.hosts import parse_host
from trow.oci.errors import Denied
from trow.tls.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from trow.http.request import Scope


class Peers:
    """Finds the client of a request.

    Args:
        proxies: networks of trusted proxies; what others say in ``X-Forwarded-*`` and ``Forwarded`` is ignored.

    Attributes:
        trusts: whether an address is a trusted proxy's.
    """

    def __init__(self, proxies: Collection[str] = ()) -> None:
        self._networks = tuple(ipaddress.ip_network(proxy) for proxy in proxies)
        self.trusts = functools.lru_cache(maxsize=4096)(self._look_up)

    def known(self, scope: Scope) -> Peer | None:
        """Everything about the client, if that is known in advance; None if `of` finds it in the headers."""
        del scope
        return None

    def address(self, scope: Scope) -> str:
        """The client's address only, which costs less than `of`."""
        if self._networks:
            return self.of(scope).address
        return _without_port(scope.client)

    def of(self, scope: Scope) -> Peer:
        """Everything about the client."""
        host = _host(scope)
        address = _without_port(scope.client)
        if not self._networks or not self.trusts(address):
            return Peer(address, "", scope.scheme, host)
        told = forwarded.read(scope.headers)
        place, client = self._client(told.clients)
        chain = ", ".join(told.clients)
        return Peer(client or address, chain, told.scheme(place) or scope.scheme, told.host(place) or host)

    def _client(self, clients: Sequence[str]) -> tuple[int, str]:
        """The rightmost address that is not a trusted proxy: everything left of it may be made up by the client.

        Returns:
            Its place in the chain, and the address; where it cannot be read, that of the proxy before it, or "".
        """
        found = ""
        for place in range(len(clients) - 1, -1, -1):
            try:
                found = forwarded.address_of(clients[place])
            except ValueError:
                return place, found
            if not self.trusts(found):
                return place, found
        return 0, found

    def _look_up(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        return any((mapped or parsed) in network for network in self._networks)


class TerminatorPeers(Peers):
    """Finds the client of a request that came through one of our own listeners, which end TLS.

    Only the HTTP server behind these listeners may ask here.

    Args:
        connections: those of these listeners, by the name that the HTTP server sees.
    """

    def __init__(self, connections: Mapping[str, Peer]) -> None:
        super().__init__()
        self._connections = connections

    def known(self, scope: Scope) -> Peer:
        """Everything about the client.

        Raises:
            Denied: the connection is not one of ours, or has ended.
        """
        peer = self._connections.get(scope.client)
        if peer is None:
            raise Denied("this address is not for clients; use one that the registry prints when it starts")
        return dataclasses.replace(peer, host=_host(scope))


def _host(scope: Scope) -> str:
    return str(parse_host(authority_of(scope.headers, scope.authority)) or "")


def _without_port(client: str) -> str:
    return client.rpartition(":")[0].strip("[]")
