"""The URLs that Trow may send requests to."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def problem_with(url: str, *, query: bool = False) -> str:
    """Why Trow sends no requests to a URL, in words that follow its name; "" where it does.

    A URL has to be https, or http on loopback: on the way to another machine everybody could read tokens and change
    answers.

    Args:
        url: any text.
        query: whether it may have a query.
    """
    if not url.isascii() or not url.isprintable() or " " in url:
        return "has characters that a URL cannot have"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("https", "http") or not parts.hostname:
        return "is not a URL of HTTP"
    if parts.username is not None or parts.password is not None:
        return "has a user or a password in it"
    if parts.fragment or (parts.query and not query):
        return "has a fragment" if query else "has a query or a fragment"
    secure = parts.scheme == "https" or is_loopback(parts.hostname)
    return "" if secure else "is not https: everybody on the way could read and change what is sent"


def is_loopback(host: str) -> bool:
    """Whether a host is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
