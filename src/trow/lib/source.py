"""Where requests come from, as every limit counts it."""

from __future__ import annotations

import functools
import ipaddress
from typing import Final

# An address is at most 45 letters long, with a zone a little more; what is longer is not an address.
_LONGEST_ADDRESS: Final = 128


@functools.lru_cache(maxsize=4096)
def source_of(address: str) -> str:
    """The source that an address belongs to: the one notion that all limits and shares use.

    Whoever has one address of IPv6 has all of its /64 (RFC 6177, section 2), so a source is a /64, written as its first
    address. An IPv4 address is a source of its own, also where it is written as IPv6 (``::ffff:192.0.2.1``).

    Args:
        address: an address without port, with or without a zone. A text that is not an address is a source too, cut.
    """
    address = address[:_LONGEST_ADDRESS]
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or ipaddress.IPv6Address(int(parsed) >> 64 << 64))
