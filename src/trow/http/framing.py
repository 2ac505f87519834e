"""Requests that can be read in two ways are refused.

A proxy that checks names, or a cache, may stand between a client and this registry and read such a request in the other
way. Then it lets through what it should not, or takes one client's answer for another's.

The HTTP server itself refuses what is malformed. Two things it does that RFC 9112 leaves to it: a line may end without
CR (section 2.2), and a body with both Content-Length and Transfer-Encoding is read as the latter, after which the
connection ends (section 6.1).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from trow.http.hosts import LONGEST, parse_host
from trow.oci.errors import RequestInvalid

if TYPE_CHECKING:
    from trow.http.request import Headers


def authority_of(headers: Headers, authority: str | None) -> str:
    """The name that a request came by, as it was written; that of the target goes before the header's.

    RFC 9112, section 3.2.2, and RFC 9113, section 8.3.1.
    """
    return authority or headers.get("host") or ""


def require_unambiguous(headers: Headers, authority: str | None, version: str) -> str:
    """Require that the request has one host name and one length for every reader.

    Args:
        headers: of the request.
        authority: the host of its target, None without one.
        version: of HTTP: ``1``, ``1.1`` or ``2``.

    Returns:
        The name; "" where HTTP/1.0 has none.

    Raises:
        RequestInvalid: it has not.
    """
    names = headers.get_all("host")
    if len(names) > 1:
        raise RequestInvalid("the request has more than one Host header; send one")
    name = authority or (names[0] if names else "")
    if not name and version != "1":
        raise RequestInvalid("the request does not say which host it is for; send a Host header")
    if names and authority and name.lower() != names[0].lower():
        raise RequestInvalid("the request is for one host and has another in its Host header; send one")
    # The cache keeps no text that is longer than a host.
    if name and not _is_host(name[: LONGEST + 1]):
        raise RequestInvalid("the Host header is not a host name; send the name that the registry is reached by")
    codings = headers.get_all("transfer-encoding")
    if codings and (len(codings) > 1 or codings[0].strip().lower() != "chunked"):
        raise RequestInvalid("the Transfer-Encoding is not just chunked; send that, or Content-Length")
    return name


@functools.lru_cache(maxsize=1024)
def _is_host(name: str) -> bool:
    return parse_host(name) is not None
