"""Repositories: they are there while they have a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.metadata import sql
from trow.oci.page import Page
from trow.registry.ports import RepositoryRecord, ScanPage
from trow.sql import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.oci.names import Repository
    from trow.oci.page import NameRange, PageRequest
    from trow.registry.ports import Publication
    from trow.sql.transaction import Row, Transaction

_LITERAL: Final = str.maketrans({special: f"!{special}" for special in "!%_"})


def repository(name: Repository) -> Transaction[RepositoryRecord | None]:
    rows = yield sql.REPOSITORY, (name,)
    return RepositoryRecord(columns.integer(rows[0][0]), columns.text(rows[0][1])) if rows else None


def generation() -> Transaction[int]:
    rows = yield sql.GENERATION, ()
    return columns.integer(rows[0][0])


def add(publication: Publication, now: float) -> Transaction[None]:
    """Have the repository, with the next number of all that were ever made."""
    if (yield sql.REPOSITORY, (publication.repository,)):
        return
    rows = yield sql.NEXT_GENERATION, ()
    yield sql.ADD_REPOSITORY, (publication.repository, columns.integer(rows[0][0]), now, publication.subject)


def repositories(page: PageRequest, within: Sequence[NameRange]) -> Transaction[Page[str]]:
    rows: list[Row] = []
    for after, before in within:
        if before > page.last and len(rows) <= page.limit:
            rows += yield sql.REPOSITORIES, (max(page.last, after), before, page.limit + 1 - len(rows))
    return page_of(rows, page)


def page_of(rows: list[Row], page: PageRequest) -> Page[str]:
    """A page of rows with a name each; the query asked for one more than the limit."""
    names = [columns.text(row[0]) for row in rows[: page.limit]]
    return Page(names, more=page.limit > 0 and len(rows) > page.limit)


def search(text: str, page: PageRequest, within: Sequence[NameRange]) -> Transaction[ScanPage]:
    """Finds the end first, so that what others write between the statements moves nothing past it."""
    found: list[str] = []
    left = page.limit
    for each in within:
        if each.before <= page.last:
            continue
        after = max(page.last, each.after)
        if left <= 0:
            return ScanPage(found, after)
        ends = _all_names((yield sql.END_OF_REPOSITORIES, (after, each.before, left - 1)))
        end = ends[0] if len(ends) > 1 else None
        pattern = f"%{text.translate(_LITERAL)}%"  # the text anywhere, each of its characters literal
        found += _all_names((yield sql.SEARCH_REPOSITORIES, (after, end or each.before, pattern)))
        if end is not None:
            return ScanPage(found, end)
        ((looked_at,),) = yield sql.COUNT_REPOSITORIES, (after, each.before, left)
        left -= int(looked_at or 0)
    return ScanPage(found, None)


def _all_names(rows: list[Row]) -> list[str]:
    return [str(name) for (name,) in rows]
