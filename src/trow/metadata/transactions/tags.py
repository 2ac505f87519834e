"""Tags: where they point, and where they pointed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.metadata import sql
from trow.metadata.transactions.repositories import page_of
from trow.oci.digest import Digest
from trow.oci.errors import TagExists
from trow.oci.names import Tag
from trow.oci.page import Page
from trow.registry.ports import TagEvent, TagMove
from trow.sql import columns
from trow.sql.transaction import lock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.oci.names import Repository
    from trow.oci.page import PageRequest
    from trow.registry.ports import Publication
    from trow.sql.transaction import Row, Transaction


_SEQUENCE_END: Final = 2**62


def name_of(repository: Repository, reference: str) -> str:
    """The name of the lock of a tag, or of a manifest."""
    return f"{repository} {reference}"


def point(publication: Publication, tag: Tag, history: int, now: float) -> Transaction[list[TagMove]]:
    """Point a tag at what is published. Raises TagExists."""
    rows = yield sql.TAG, (publication.repository, tag)
    previous = Digest(columns.text(rows[0][0])) if rows else None
    if previous == publication.digest:
        return []
    # Decided here, where nothing can come between: the right to create is not the right to overwrite (CVE-2026-31801).
    if previous is not None and not publication.overwrite:
        what = f"the tag {tag} exists, and moving it needs the permission tag-overwrite"
        raise TagExists(f"{what}; push another tag", {"tag": tag})
    yield sql.SET_TAG, (publication.repository, tag, publication.digest)
    yield from _record(publication.repository, tag, publication.digest, now, publication.subject, history)
    return [TagMove(tag, previous)]


def _record(
    repository: Repository, tag: Tag, digest: Digest | None, now: float, subject: str, history: int
) -> Transaction[None]:
    rows = yield sql.LAST_TAG_EVENT, (repository, tag)
    sequence = 1 + (columns.integer(rows[0][0]) if rows[0][0] is not None else 0)
    yield sql.ADD_TAG_EVENT, (repository, tag, sequence, digest, now, subject)
    if sequence > history:
        yield sql.TRIM_TAG_EVENTS, (repository, tag, sequence - history)


def delete_tag(repository: Repository, tag: Tag, subject: str, history: int, now: float) -> Transaction[Digest | None]:
    yield lock(exclusive=(name_of(repository, tag),), shared=(repository,))
    return (yield from remove(repository, tag, subject, history, now))


def remove(repository: Repository, tag: Tag, subject: str, history: int, now: float) -> Transaction[Digest | None]:
    """Delete a tag in a transaction that has the locks."""
    deleted = yield sql.DELETE_TAG, (repository, tag)
    if not deleted:
        return None
    yield from _record(repository, tag, None, now, subject, history)
    return Digest(columns.text(deleted[0][0]))


def tags(repository: Repository, page: PageRequest) -> Transaction[Page[str] | None]:
    if not (yield sql.REPOSITORY, (repository,)):
        return None
    rows = yield sql.TAGS, (repository, page.last, page.limit + 1)
    return page_of(rows, page)


def tag_history(repository: Repository, tag: Tag, page: PageRequest) -> Transaction[Page[TagEvent] | None]:
    before = int(page.last) if page.last else _SEQUENCE_END
    rows = yield sql.TAG_EVENTS, (repository, tag, before, page.limit + 1)
    if not rows and not page.last:
        return None
    events = [_event(row) for row in rows[: page.limit]]
    return Page(events, more=page.limit > 0 and len(rows) > page.limit)


def _event(row: Row) -> TagEvent:
    sequence, digest, at, subject = row
    name = columns.optional_text(digest)
    return TagEvent(
        columns.integer(sequence), Digest(name) if name else None, columns.number(at), columns.text(subject)
    )


def was_tagged(repository: Repository, tag: Tag, digest: Digest) -> Transaction[bool]:
    rows = yield sql.WAS_TAGGED, (repository, tag, digest, repository, tag, digest)
    return bool(rows)


def tagged_as(repository: Repository, digest: Digest, most: int) -> Transaction[Sequence[Tag]]:
    rows = yield sql.TAGGED_AS, (repository, digest, most, repository, digest, most, most)
    return [Tag(columns.text(row[0])) for row in rows]
