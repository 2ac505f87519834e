"""What proxies tell of the requests that they pass on: ``X-Forwarded-*``, or ``Forwarded`` (RFC 7239).

Both are lists that each proxy may add to at the right end. Who reads them decides how far from the right they are to be
believed; what is malformed says nothing.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.http.hosts import parse_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trow.http.request import Headers

# No proxy that we know has added what is further left.
_MOST_HOPS: Final = 16
_LONGEST: Final = 1024
_HOP: Final = re.compile(r"(?:\[([^\[\]]+)\]|([0-9.]+))(?::[0-9]{1,5})?")
_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# RFC 7239, section 4; white space around the separators, as lists of headers have it.
_PAIR: Final = re.compile(rf'[ \t]*({_WORD})=(?:"((?:[^"\\]|\\.)*)"|({_WORD}))[ \t]*([;,]|$)')


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What proxies told, from the client on the left to the nearest proxy on the right.

    Attributes:
        clients: whom each proxy took the request from, as it wrote that.
        schemes: how.
        hosts: by which name.
    """

    clients: Sequence[str] = ()
    schemes: Sequence[str] = ()
    hosts: Sequence[str] = ()

    def scheme(self, place: int) -> str:
        """``http`` or ``https`` as told by the proxy at this place among the clients; "" where it is neither."""
        scheme = self._told(self.schemes, place).lower()
        return scheme if scheme in ("http", "https") else ""

    def host(self, place: int) -> str:
        """The host as told by the proxy at this place; "" where it is none."""
        return str(parse_host(self._told(self.hosts, place)) or "")

    def _told(self, values: Sequence[str], place: int) -> str:
        """The value that belongs to a client.

        Proxies that add to one list and rewrite the other leave lists of different lengths. Then the first value
        is the one from nearest to the client.
        """
        if not values:
            return ""
        return values[place] if len(values) == len(self.clients) else values[0]


def read(headers: Headers) -> Forwarded:
    """What proxies told; ``Forwarded`` counts where no ``X-Forwarded-*`` is there."""
    lists = {name: _listed(headers, f"x-forwarded-{name}") for name in ("for", "proto", "host")}
    if any(lists.values()):
        return Forwarded(lists["for"], _whole(headers, "proto", lists), _whole(headers, "host", lists))
    elements = list(_elements(_right_end(headers.get_all("forwarded"))))[-_MOST_HOPS:]
    clients, schemes, hosts = ([each.get(name, "") for each in elements] for name in ("for", "proto", "host"))
    # Without clients nothing says which element is whose; then the first one counts.
    return Forwarded(clients if any(clients) else (), schemes, hosts)


def address_of(hop: str) -> str:
    """An address as proxies write it, with or without brackets and a port.

    Raises:
        ValueError: it is not an address.
    """
    match = _HOP.fullmatch(hop)
    return str(ipaddress.ip_address(match[1] or match[2] if match else hop))


def _listed(headers: Headers, name: str) -> Sequence[str]:
    text = _right_end(headers.get_all(name))
    return [each.strip() for each in text.split(",")][-_MOST_HOPS:] if text else ()


def _whole(headers: Headers, name: str, lists: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """A list that was not cut; of one that was, the first value belongs to no client."""
    values = headers.get_all(f"x-forwarded-{name}")
    whole = sum(map(len, values)) <= _LONGEST and sum(value.count(",") + 1 for value in values) <= _MOST_HOPS
    return lists[name] if whole else ()


def _right_end(values: Sequence[str]) -> str:
    """A header that may be repeated, cut off on the left: the right end is what our own proxies have added."""
    text = ", ".join(values)
    return text if len(text) <= _LONGEST else text[-_LONGEST:].partition(",")[2]


def _elements(text: str) -> Iterator[Mapping[str, str]]:
    """The elements of ``Forwarded``. What cannot be read, up to the next comma, is one that says nothing."""
    element: dict[str, str] = {}
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            yield {}
            element = {}
            at = (text.find(",", at) + 1) or len(text)
            continue
        name, quoted, token, end = pair.groups()
        element.setdefault(name.lower(), token if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        at = pair.end()
        if end != ";":
            yield element
            element = {}
