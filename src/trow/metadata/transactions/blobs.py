"""Blobs: which there are, and who links them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.metadata import sql
from trow.oci.digest import Digest
from trow.oci.names import Repository
from trow.registry.ports import BlobRecord, StorageUsage
from trow.sql import columns
from trow.sql.transaction import lock

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trow.sql.transaction import Transaction


def blob(repository: Repository, digest: Digest) -> Transaction[BlobRecord | None]:
    rows = yield sql.BLOB, (repository, digest)
    return BlobRecord(columns.integer(rows[0][0]), columns.optional_bytes(rows[0][1])) if rows else None


def blob_files(repository: Repository, digests: Sequence[Digest]) -> Transaction[Sequence[tuple[Digest, int]]]:
    found = yield from sizes(sql.BLOB_FILE_SIZES, repository, digests)
    return [(digest, found[digest]) for digest in digests if digest in found]


def sizes(statement: str, repository: Repository, digests: Sequence[Digest]) -> Transaction[dict[Digest, int]]:
    """Those that are there: a manifest names up to 25 000, so not one by one."""
    wanted = list(dict.fromkeys(digests))
    found: dict[Digest, int] = {}
    for start in range(0, len(wanted), sql.DIGESTS):
        some = wanted[start : start + sql.DIGESTS]
        rows = yield statement, (repository, *some, *some[-1:] * (sql.DIGESTS - len(some)))
        found.update((Digest(columns.text(digest)), columns.integer(size)) for digest, size in rows)
    return found


def link_blob(repository: Repository, digest: Digest, record: BlobRecord) -> Transaction[None]:
    yield lock(shared=(digest,))  # a removal waits
    yield sql.ADD_BLOB, (digest, record.size, record.content)
    yield sql.LINK_BLOB, (repository, digest)


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


def knows_blob(digest: Digest) -> Transaction[bool]:
    return bool((yield sql.KNOWN_BLOB, (digest,)))


def usage() -> Transaction[StorageUsage]:
    """How many blobs there are, and their bytes."""
    rows = yield sql.STORED, ()
    return StorageUsage(columns.integer(rows[0][0]), columns.integer(rows[0][1]))
