"""Blobs: which there are, and who links them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.metadata import sql
from trow.oci.digest import Digest
from trow.oci.errors import UploadUnknown
from trow.oci.names import Repository
from trow.registry.location import BlobLocation
from trow.registry.ports import BlobRecord, StorageUsage
from trow.sql import columns
from trow.sql.transaction import lock

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trow.sql.transaction import Row, Transaction, Value


def blob(repository: Repository, digest: Digest) -> Transaction[BlobRecord | None]:
    rows = yield sql.BLOB, (repository, digest)
    return _record(rows[0]) if rows else None


def _record(row: Row) -> BlobRecord:
    size, content, location = row
    return BlobRecord(columns.integer(size), columns.optional_bytes(content), _location(location))


def _location(value: Value) -> BlobLocation | None:
    """One that is none of ours is damage, and leads nowhere."""
    try:
        return BlobLocation.parse(value)
    except ValueError:
        return None


def blob_files(repository: Repository, digests: Sequence[Digest]) -> Transaction[dict[Digest, BlobRecord]]:
    rows = yield from _among(sql.BLOB_FILES, repository, digests)
    found = {columns.text(digest): _record((size, None, location)) for digest, size, location in rows}
    return {digest: found[digest] for digest in digests if digest in found}


def sizes(statement: str, repository: Repository, digests: Sequence[Digest]) -> Transaction[dict[Digest, int]]:
    rows = yield from _among(statement, repository, digests)
    return {Digest(columns.text(digest)): columns.integer(size) for digest, size in rows}


def _among(statement: str, repository: Repository, digests: Sequence[Digest]) -> Transaction[Sequence[Row]]:
    """Those that are there: a manifest names up to 25 000, so not one by one."""
    wanted = list(dict.fromkeys(digests))
    found: list[Row] = []
    for start in range(0, len(wanted), sql.DIGESTS):
        some = wanted[start : start + sql.DIGESTS]
        found += yield statement, (repository, *some, *some[-1:] * (sql.DIGESTS - len(some)))
    return found


def link_blob(repository: Repository, digest: Digest, record: BlobRecord, now: float) -> Transaction[None]:
    if record.location is None:
        yield lock(shared=(digest,))  # a removal waits
    else:
        yield lock(exclusive=(digest,))  # of two copies that come at a time, the first is doomed by the second
        yield from _take(record.location)
        yield sql.DOOM_FORMER_LOCATION, (now, digest, record.location)
    yield sql.ADD_BLOB, (digest, record.size, record.content, record.location)
    yield sql.LINK_BLOB, (repository, digest)


def _take(location: BlobLocation) -> Transaction[None]:
    """Have a location that was reserved, unless its bytes are being removed."""
    if location.early and not (yield sql.TAKE_RESERVED, (location,)) and not (yield sql.LOCATION, (location,)):
        raise UploadUnknown("the upload took too long, and its bytes were removed; begin another")


def reserve(location: BlobLocation, now: float) -> Transaction[bool]:
    """Locks nothing: one statement decides."""
    return bool((yield sql.RESERVE_LOCATION, (location, now, location)))


def knows_location(location: BlobLocation) -> Transaction[bool]:
    return bool((yield sql.LOCATION, (location,)))


def knows_location_finally(digest: Digest | None, location: BlobLocation) -> Transaction[bool]:
    """The same, once no other transaction has the digest: one whose connection was lost may still come true."""
    yield lock(exclusive=() if digest is None else (digest,))
    return (yield from knows_location(location))


def doomed(before: float, most: int) -> Transaction[Sequence[BlobLocation]]:
    rows = yield sql.DOOMED, (before, most)
    return [location for row in rows if (location := _location(row[0])) is not None]


def remove_doomed(locations: Sequence[BlobLocation], before: float) -> Transaction[Sequence[BlobLocation]]:
    """Those that nobody has reserved again meanwhile. Locks nothing: each statement decides about one row."""
    found = []
    for location in locations:
        if (yield sql.REMOVE_DOOMED, (location, before)):
            found.append(location)  # noqa: PERF401 - no comprehension can yield
    return found


def forget_doomed(locations: Sequence[BlobLocation]) -> Transaction[None]:
    """Locks nothing: nobody else works on locations that are doomed."""
    for location in locations:
        yield sql.FORGET_DOOMED, (location,)


def mount_blob(
    repository: Repository, digest: Digest, sources: Collection[Repository]
) -> Transaction[Repository | None]:
    yield lock(shared=(digest,))
    for source in sources:
        if (yield sql.HAS_BLOB, (source, digest)):
            yield sql.LINK_BLOB, (repository, digest)
            return source
    return None


def repositories_with(digest: Digest, most: int) -> Transaction[Sequence[Repository]]:
    rows = yield sql.REPOSITORIES_WITH, (digest, most)
    return [Repository(columns.text(row[0])) for row in rows]


def unlink_blob(repository: Repository, digest: Digest) -> Transaction[bool]:
    yield lock(exclusive=(repository, digest))  # content that is in this database goes with the last link
    unlinked = yield sql.UNLINK_BLOB, (repository, digest)
    if unlinked:
        yield sql.DROP_UNLINKED_CONTENT, (digest,)
    return bool(unlinked)


def usage() -> Transaction[StorageUsage]:
    """How many blobs there are, and their bytes."""
    rows = yield sql.STORED, ()
    return StorageUsage(columns.integer(rows[0][0]), columns.integer(rows[0][1]))
