"""Copies of blobs that have come again: their bytes go when nobody reads them any more, and never those of a blob."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import factories
from support.actors import named
from support.clock import Clock
from support.core import OTHER, REPO, digest, names, pieces, pushing
from trow.oci.errors import Unavailable
from trow.registry.leftovers import GRACE_SECONDS, Leftovers
from trow.registry.pull import Pull
from trow.registry.sessions import Chunk

if TYPE_CHECKING:
    from support.fixtures import LocalBlobs
    from support.metadata import EmbeddedMetadata
    from trow.registry.location import BlobLocation


async def test_copy_that_was_replaced_goes_after_its_grace(
    blobs: LocalBlobs, metadata: EmbeddedMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(metadata, "_clock", clock)
    push, leftovers, blob = pushing(blobs, metadata), Leftovers(blobs, metadata, clock), factories.blob(100_000)
    for repository in (REPO, OTHER, REPO):
        await push.monolithic(repository, named(""), Chunk(pieces(blob.content)), digest(blob.digest))
    clock.now += GRACE_SECONDS
    assert await leftovers.remove() == 0
    assert len([each async for each in names(blobs, 9)]) == 3  # somebody may have been told of each a moment ago
    clock.now += 1
    assert await leftovers.remove() == 2
    assert await leftovers.remove() == 0
    assert len([each async for each in names(blobs, 9)]) == 1
    pull = Pull(blobs, metadata)
    for repository in (REPO, OTHER):
        assert await pull.content(await pull.blob(repository, digest(blob.digest))) == blob.content


async def test_bytes_that_cannot_be_removed_are_removed_later(
    blobs: LocalBlobs, metadata: EmbeddedMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(metadata, "_clock", clock)
    push, leftovers, blob = pushing(blobs, metadata), Leftovers(blobs, metadata, clock), factories.blob(100_000)
    for _ in range(2):
        await push.monolithic(REPO, named(""), Chunk(pieces(blob.content)), digest(blob.digest))
    clock.now += GRACE_SECONDS + 1

    async def broken(_: BlobLocation) -> bool:
        raise Unavailable("not now")

    with monkeypatch.context() as patch:
        patch.setattr(blobs, "delete", broken)
        with pytest.raises(Unavailable):
            await leftovers.remove()
    assert await leftovers.remove() == 1
