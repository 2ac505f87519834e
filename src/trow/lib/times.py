"""Points in time as RFC 3339 writes them, and durations such as ``24h``.

Where a time has to be read again exactly as it was written, it is whole microseconds since 1970, never a float.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta
from typing import Final

MICROSECONDS: Final = 1_000_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_OFFSET_LENGTH: Final = len("+00:00")
_LAST: Final = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_WRITTEN: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+ -]\d\d:\d\d)", re.ASCII)
_DURATION: Final = re.compile(r"(0|[1-9][0-9]{0,5})([smhdw])", re.ASCII)
UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def microseconds(seconds: float) -> int:
    """Seconds since 1970 in whole microseconds, kept to the years that can be written."""
    return min(max(round(seconds * MICROSECONDS), 0), _LAST)


def rfc3339(seconds: float, timespec: str = "seconds") -> str:
    """A time in UTC, given in seconds since 1970; what is smaller than ``timespec`` is cut off."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def precise(at: int) -> str:
    """The form with microseconds; all are of one length, so that they sort as text."""
    seconds, rest = divmod(at, MICROSECONDS)
    return f"{_second(seconds)}.{rest:06}Z"


@functools.lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:-_OFFSET_LENGTH]


def parse(text: str) -> int:
    """Read a time in RFC 3339, in microseconds.

    Raises:
        ValueError: it is not one; the message is for people.
    """
    if not _WRITTEN.fullmatch(text):
        raise ValueError(f"{text!r} is not a time; write one such as 2026-01-31T08:00:00Z")
    if text[-_OFFSET_LENGTH] == " ":  # a bare plus, as a query has it
        text = f"{text[:-_OFFSET_LENGTH]}+{text[1 - _OFFSET_LENGTH :]}"
    try:
        # A leap second and other times that do not exist are refused here.
        return (datetime.fromisoformat(text.upper()) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is a time that does not exist") from None


def parse_duration(text: str) -> int:
    """Seconds of a whole number of seconds, minutes, hours, days or weeks: ``90s``, ``15m``, ``24h``, ``7d``, ``4w``.

    Raises:
        ValueError: it is not one; the message is for people.
    """
    if (found := _DURATION.fullmatch(text)) is None:
        raise ValueError(f"{text!r} is not a duration; write a number and s, m, h, d or w, such as 24h or 7d")
    return int(found[1]) * UNITS[found[2]]


def parse_point(text: str, now: int) -> int:
    """Read a time, or how long ago it was, in microseconds.

    Raises:
        ValueError: it is neither; the message is for people.
    """
    if _DURATION.fullmatch(text):
        return max(0, now - parse_duration(text) * MICROSECONDS)
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{error}, or how long ago, such as 24h or 7d") from None
