"""What the use cases are given: values of the vocabulary made of plain words, and bodies that arrive piece by piece."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from trow.oci import manifest as manifests
from trow.oci.digest import Digest
from trow.oci.names import Repository, Tag
from trow.oci.page import PageRequest
from trow.registry.ports import Publication, PublishRules, UploadBounds
from trow.registry.push import Push
from trow.registry.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from factories import Manifest
    from support.metadata import EmbeddedMetadata
    from trow.registry.ports import Blobs, StoredName

REPO = Repository.parse("library/one")
OTHER = Repository.parse("library/other")
# Whose share an upload takes.
OWNER = "user alice"
_BOUNDS: Final = UploadBounds(10, 100, 100)


def tag(name: str) -> Tag:
    return Tag.parse(name)


def digest(text: str) -> Digest:
    return Digest.parse(text)


def pushing(blobs: Blobs, metadata: EmbeddedMetadata, *, bounds: UploadBounds = _BOUNDS, expiry: float = 3600) -> Push:
    """Uploads as a server has them, with small limits."""
    sessions = Sessions(blobs, metadata.uploads, bounds, expiry=expiry, empty_expiry=min(expiry, 300))
    return Push(blobs, metadata, sessions, most_bytes=1_000_000)


async def pieces(*chunks: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    """A body that arrives in these pieces, and perhaps ends with an error."""
    for chunk in chunks:
        yield chunk
    if then is not None:
        raise then


async def names(blobs: Blobs, limit: int) -> AsyncIterator[StoredName]:
    """Everything that a store has a name for, ``limit`` names at a time."""
    last, more = "", True
    while more:
        page = await blobs.names(PageRequest(limit, last))
        assert len(page.items) <= limit
        for each in page.items:
            yield each
            last = each.name
        more = page.more


class Stalled:
    """A body whose sender stops after the first piece until it is told to go on."""

    def __init__(self, first: bytes, rest: bytes = b"") -> None:
        self._first, self._rest = first, rest
        self.stopped = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        self.stopped.set()
        await self.go_on.wait()
        if self._rest:
            yield self._rest


def publication(
    repository: Repository,
    manifest: Manifest,
    *tags: str,
    subject: str = "alice",
    require_blobs: bool = False,
    require_children: bool = False,
    require_sizes: bool = False,
    overwrite: bool = True,
) -> Publication:
    return Publication(
        repository=repository,
        digest=digest(manifest.digest),
        manifest=manifests.parse(manifest.raw, manifest.media_type),
        tags=[tag(each) for each in tags],
        subject=subject,
        rules=PublishRules(not require_blobs, not require_children, require_sizes, most_tags=0),
        overwrite=overwrite,
    )
