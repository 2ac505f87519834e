"""Keeps pages of other sites out, which are open in the browser of a user of this registry.

A page can make any name point at this machine (DNS rebinding). It can send to any site what a form can send, with the
credentials that the browser adds by itself (cross-site request forgery). Programs send neither ``Origin`` nor
``Sec-Fetch-Site``.
"""

from __future__ import annotations

import functools
import ipaddress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from trow.http.hosts import LONGEST, parse_host
from trow.oci.errors import Denied, RequestInvalid

if TYPE_CHECKING:
    from collections.abc import Collection

    from trow.config import Config
    from trow.http.request import Request

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# Balancers ask for these by whatever name they like, and no page learns anything by them.
_HEALTH: Final = frozenset({"/healthz", "/readyz", "/readiness"})
_ANY: Final = "*"
_ANOTHER: Final = "another site"
_LONGEST_SHOWN: Final = 128


class Sites:
    """Which names and pages requests may come by.

    Args:
        names: further names of this registry, beside those that every machine has for itself; None takes any name.
        origins: pages that may write; ``*`` is any page, without credentials.
        own: whether pages of the name that a request comes by may write; not where anybody could have pointed a name
            here and needs no credentials.
    """

    def __init__(self, names: Collection[str] | None, origins: Collection[str], *, own: bool) -> None:
        self._names = None if names is None else frozenset(names)
        self._origins = frozenset(origins)
        self._own = own
        self._known = functools.lru_cache(maxsize=1024)(self._look_up)

    @classmethod
    def of(cls, config: Config) -> Sites:
        """As the settings say: without credentials, the name that a request comes by tells whose page it is from."""
        url = config.listen.public_url
        origins = {*config.listen.cors, *([origin_of(url)] if url else [])}
        if not config.open_to_all:
            return cls(None, origins, own=True)
        if not config.loopback:  # nobody knows by which names other machines reach it
            return cls(None, origins, own=False)
        named = [urlsplit(url).netloc] if url else []
        hosts = filter(None, map(parse_host, [*named, *config.admission.registries]))
        return cls({host.name for host in hosts}, origins, own=True)

    def check(self, request: Request) -> None:
        """See that the request comes by a name of this registry, and that no page of another site writes.

        Raises:
            Denied: it does not.
        """
        if (
            self._names is not None
            and request.path not in _HEALTH
            and not self._known(request.authority[: LONGEST + 1])
        ):
            raise Denied(
                "this registry needs no credentials, so requests have to use a name of this machine,"
                f" and not {request.authority[:_LONGEST_SHOWN]!r}; set listen.public_url to the URL that clients use"
            )
        if request.method not in _READING and (page := self._foreign(request)):
            raise Denied(
                f"a page of {page[:_LONGEST_SHOWN]} may not write here; name its origin in listen.cors if it may"
            )

    def _look_up(self, named: str) -> bool:
        assert self._names is not None  # noqa: S101 - checked by the caller
        if not named:  # only HTTP/1.0 knows requests without a host, and no browser does
            return True
        host = parse_host(named)
        return host is not None and (host.name in self._names or _is_this_machine(host.name))

    def _foreign(self, request: Request) -> str:
        """The page of another site that sends this; "" if none does."""
        origin, site = _one(request, "origin"), _one(request, "sec-fetch-site")
        if origin is None:
            return _ANOTHER if site in ("cross-site", "same-site") else ""
        if origin in self._origins or (_ANY in self._origins and not _adds_credentials(request)):
            return ""
        ours = self._own and origin == f"{request.peer.scheme}://{request.peer.host}"
        return "" if ours and site in (None, "same-origin") else origin or _ANOTHER


def origin_of(url: str) -> str:
    """The origin of a page at this URL, as a browser writes it."""
    parts = urlsplit(url.lower())
    port = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    return f"{parts.scheme}://{parts.netloc.removesuffix(port)}"


def _adds_credentials(request: Request) -> bool:
    """Whether the request has credentials of a kind that browsers add by themselves."""
    authorization = request.authorization
    return request.certificate is not None or (
        authorization is not None and not authorization.lower().startswith("bearer ")
    )


def _one(request: Request, name: str) -> str | None:
    try:
        return request.header(name)
    except RequestInvalid:
        return "several origins"


def _is_this_machine(name: str) -> bool:
    """Names that are not resolved by DNS (RFC 6761, section 6.3)."""
    try:
        address = ipaddress.ip_address(name)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    except ValueError:
        return f".{name.rstrip('.')}".endswith(".localhost")
