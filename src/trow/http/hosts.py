"""The name that a client has for this registry: RFC 9110, section 7.2."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

LONGEST: Final = 253 + len(":65535")
# Underscores are in no host name, and in those of Docker Compose and of many a laptop.
_NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
_PARTS: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]{1,5}))?")
_MOST_PORT: Final = 65535


class Host(NamedTuple):
    """A host, with or without a port.

    Attributes:
        name: a name in lower case, or an address without brackets.
        port: None where none is named.
    """

    name: str
    port: int | None = None

    def __str__(self) -> str:
        """As a URL has it."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


def parse_host(text: str) -> Host | None:
    """Read a host as ``Host`` has it; None if it is not one, so that nothing else gets into our URLs."""
    parts = _PARTS.fullmatch(text.lower()) if len(text) <= LONGEST else None
    if parts is None:
        return None
    address, name, port = parts.groups()
    number = None if port is None else int(port)
    if number is not None and number > _MOST_PORT:
        return None
    if name is not None:
        return Host(name, number) if _NAME.fullmatch(name) else None
    try:
        return Host(str(ipaddress.IPv6Address(address)), number)
    except ValueError:
        return None
