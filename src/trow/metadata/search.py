"""A search in the names of repositories, a stretch at a time: no statement reads more than a page of a list would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.metadata import sql
from trow.registry.ports import Stretch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.metadata.transactions import Row, Transaction
    from trow.oci.page import NameRange, PageRequest

_LITERAL: Final = str.maketrans({special: f"!{special}" for special in "!%_"})


def repositories(text: str, page: PageRequest, within: Sequence[NameRange]) -> Transaction[Stretch]:
    """See `Metadata.search_repositories`.

    The end is found first and bounds what is read: what others write between the statements moves nothing past it.
    """
    found: list[str] = []
    left = page.limit
    for each in within:
        if each.before <= page.last:
            continue
        after = max(page.last, each.after)
        if left <= 0:
            return Stretch(found, after)
        ends = _names((yield sql.END_OF_REPOSITORIES, (after, each.before, left - 1)))
        end = ends[0] if len(ends) > 1 else None
        found += _names((yield sql.SEARCH_REPOSITORIES, (after, end or each.before, _pattern(text))))
        if end is not None:
            return Stretch(found, end)
        ((looked_at,),) = yield sql.COUNT_REPOSITORIES, (after, each.before, left)
        left -= int(looked_at or 0)
    return Stretch(found, None)


def _pattern(text: str) -> str:
    """For ``LIKE``: the text anywhere, each of its characters literal."""
    return f"%{text.translate(_LITERAL)}%"


def _names(rows: list[Row]) -> list[str]:
    return [str(name) for (name,) in rows]
