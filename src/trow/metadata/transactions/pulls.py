"""Pulls by tag that were allowed at another replica."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.metadata import sql
from trow.oci.names import Tag
from trow.sql import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.oci.digest import Digest
    from trow.oci.names import Repository
    from trow.sql.transaction import Transaction


def allowed_pull(user: str, repository: Repository, digest: Digest) -> Transaction[tuple[Tag, float] | None]:
    rows = yield sql.ALLOWED_PULL, (user, repository, digest)
    return (Tag(columns.text(rows[0][0])), columns.number(rows[0][1])) if rows else None


def add_allowed_pulls(
    user: str, repository: Repository, digests: Sequence[Digest], tag: Tag, at: float
) -> Transaction[None]:
    """Locks nothing: it is one statement, and all write in the order of the digests."""
    yield sql.ADD_ALLOWED_PULLS, (user, repository, tag, at, ",".join(sorted(set(digests))))


def drop_allowed_pulls(before: float, most: int) -> Transaction[None]:
    """Locks nothing: nobody asks for what is past, and rows that come meanwhile are counted the next time."""
    yield sql.DROP_ALLOWED_PULLS, (before,)
    yield sql.DROP_SURPLUS_ALLOWED_PULLS, (most,)
