"""Whether bytes are where the metadata says. Asked before anybody is told that a blob is here.

Sizes are compared, content is not: that takes as long as reading it, and is what ``trow fsck`` does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.oci.digest import Digest
    from trow.oci.names import Repository
    from trow.registry.ports import BlobRecord, Blobs, BlobSource, Metadata

# How many blobs the database is asked about in one go, which takes about a millisecond of the event loop.
_AT_ONCE: Final = 100


async def locate(blobs: Blobs, record: BlobRecord) -> BlobSource | None:
    """Where the bytes of a blob are; None when they are lost or cut short."""
    if record.location is not None:
        return await blobs.locate(record.location, record.size)
    if record.content is None:
        return None
    return record.content if len(record.content) == record.size else None


async def lost(blobs: Blobs, metadata: Metadata, repository: Repository, digests: Sequence[Digest]) -> Sequence[Digest]:
    """Which of these blobs the repository links although their bytes are lost or cut short."""
    found: list[Digest] = []
    for start in range(0, len(digests), _AT_ONCE):
        files = await metadata.blob_files(repository, digests[start : start + _AT_ONCE])
        stored = [(each.location, each.size) for each in files.values() if each.location is not None]
        absent = await blobs.lost(stored) if stored else ()
        found += [digest for digest, each in files.items() if each.location is None or each.location in absent]
        await asyncio.sleep(0)
    return found
