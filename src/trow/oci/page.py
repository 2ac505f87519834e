"""Pages of long lists: the ``n`` and ``last`` parameters and the ``Link`` to what follows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar
from urllib.parse import urlencode

from trow.oci.errors import RequestInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Item = TypeVar("Item")
_NUMBER: Final = re.compile(r"[0-9]+")
_MOST_DIGITS: Final = 18
# Sorts behind all that names are of.
_AFTER_ASCII: Final = "\x7f"


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Up to ``limit`` items that sort after ``last`` ("" is before everything)."""

    limit: int
    last: str = ""


class NameRange(NamedTuple):
    """Names that sort after one text and before another; neither is a name itself."""

    after: str
    before: str

    @classmethod
    def beginning_with(cls, text: str) -> NameRange:
        """All names that begin with the text, which are in ASCII."""
        after = f"{text[:-1]}{chr(ord(text[-1]) - 1)}{_AFTER_ASCII}" if text else ""
        return cls(after, f"{text}{_AFTER_ASCII}")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page, and whether more items follow it."""

    items: Sequence[Item]
    more: bool


ALL_NAMES: Final = (NameRange.beginning_with(""),)


def parse_page(n: str | None, last: str | None, default: int, most: int) -> PageRequest:
    """Read ``n`` and ``last``; a huge ``n`` is clamped to ``most``, never refused (CVE-2023-2253).

    Raises:
        RequestInvalid: ``n`` is not a number.
    """
    if n is None:
        return PageRequest(default, last or "")
    if not _NUMBER.fullmatch(n):
        raise RequestInvalid("n is not a number; leave it out, or give how many items the page may have")
    limit = most if len(n) > _MOST_DIGITS else min(int(n), most)
    return PageRequest(limit, last or "")


def next_link(path: str, parameters: Mapping[str, str]) -> str:
    """The ``Link`` header value for the page that follows (RFC 8288, rel="next")."""
    return f'<{path}?{urlencode(parameters)}>; rel="next"'
