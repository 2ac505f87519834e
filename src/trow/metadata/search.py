"""A search in the names of repositories, a stretch at a time: no statement reads more than a page of a list would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.metadata import sql
from trow.registry.ports import Stretch

if TYPE_CHECKING:
    from trow.metadata.transactions import Row, Transaction
    from trow.oci.page import PageRequest

# Names are ASCII (distribution-spec, "Pull"), and this sorts after all of it but itself.
_AFTER_ALL_NAMES: Final = "\x7f"
_LITERAL: Final = str.maketrans({special: f"!{special}" for special in "!%_"})


def repositories(text: str, page: PageRequest) -> Transaction[Stretch]:
    """See `Metadata.search_repositories`.

    The end is found first and bounds what is read: what others write between the two statements moves nothing past it.
    """
    ends = _names((yield sql.END_OF_REPOSITORIES, (page.last, page.limit - 1)))
    end = ends[0] if len(ends) > 1 else None
    found = yield sql.SEARCH_REPOSITORIES, (page.last, end or _AFTER_ALL_NAMES, _pattern(text))
    return Stretch(_names(found), end)


def _pattern(text: str) -> str:
    """For ``LIKE``: the text anywhere, each of its characters literal."""
    return f"%{text.translate(_LITERAL)}%"


def _names(rows: list[Row]) -> list[str]:
    return [str(name) for (name,) in rows]
