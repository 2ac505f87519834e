"""Numbers in documents that clients have written."""

from __future__ import annotations

import math

import msgspec


def finite(text: str) -> float:
    """What a number with a fraction or an exponent says; every decoder of what is not ours has it as ``float_hook``.

    msgspec's own reader takes up to 50 µs for one that is hard to round (``1e300``), fifty times as long as this, and
    nothing else runs meanwhile: a list of 200 000 of them stopped everything for seconds.

    Raises:
        DecodeError: it is larger than a number can be.
    """
    value = float(text)
    if math.isinf(value):
        raise msgspec.DecodeError("Number out of range")
    return value
