"""What all lists have in common: pages, and a limit of those that are read at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.lib.shares import Bounds, Shares
from trow.lib.source import source_of
from trow.oci.errors import RequestInvalid
from trow.oci.page import PageRequest, parse_page

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from trow.http.request import Request

_LONGEST_LAST: Final = 512
# A list takes from a tenth of a millisecond to some tenths of a second, where it goes through all repositories.
_BOUNDS: Final = Bounds(total=4, each=2, waiting=1024, waiting_each=256, patience=10)


class Lists:
    """Reads pages of ``default`` or up to ``most`` items, and limits how many lists are read at a time."""

    def __init__(self, default: int, most: int) -> None:
        self._default = default
        self._most = most
        self._shares = Shares(_BOUNDS, "lists")

    def page(self, request: Request) -> PageRequest:
        """The page that the request asks for.

        Raises:
            RequestInvalid: it cannot be understood.
        """
        last = request.query("last")
        if last is not None and len(last) > _LONGEST_LAST:
            raise RequestInvalid("last is longer than any name; take it from the Link of the page before")
        return self.numbered(request, last)

    def numbered(self, request: Request, last: str | None) -> PageRequest:
        """The page after ``last``, which has been checked."""
        return parse_page(request.query("n"), last, self._default, self._most)

    def turn(self, request: Request) -> AbstractAsyncContextManager[None]:
        """Wait for a turn; the source of the request has no more at a time than its share.

        Raises:
            TooManyRequests, Unavailable: too many wait already.
        """
        return self._shares.hold(source_of(request.client))
