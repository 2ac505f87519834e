"""Writes that run side by side: each race has one outcome on every engine, and more where nothing is locked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

import factories
from support.core import OTHER, REPO, digest, publication, tag
from trow.oci.errors import ManifestBlobUnknown
from trow.registry.ports import BlobRecord
from trow.sql import postgres

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from factories import Blob
    from support.fixtures import Database
    from trow.oci.digest import Digest
    from trow.sql.transaction import Row

    Race = Callable[[Database], Awaitable[bool]]

ROUNDS: Final = 40
# A race that nothing prevents is lost in 11 to 97 of 100 rounds.
MOST_ROUNDS: Final = 400


def name(of: Blob) -> Digest:
    return digest(of.digest)


async def one_of_four_makes_a_tag(metadata: Database) -> bool:
    """The right to create a tag is not the right to move it (CVE-2026-31801)."""
    label = f"v{factories.blob().digest[-12:]}"
    pushes = (metadata.publish(publication(REPO, factories.image(), label, overwrite=False)) for _ in range(4))
    answers = await asyncio.gather(*pushes, return_exceptions=True)
    return sorted(type(each).__name__ for each in answers) == ["PublicationResult", *["TagExists"] * 3]


async def a_repository_is_there_while_it_has_a_manifest(metadata: Database) -> bool:
    last, new = factories.image(), factories.image()
    await metadata.publish(publication(OTHER, last, "last"))
    await asyncio.gather(
        metadata.delete_manifest(OTHER, digest(last.digest), "alice"), metadata.publish(publication(OTHER, new, "new"))
    )
    right = await metadata.repository(OTHER) is not None
    await metadata.delete_manifest(OTHER, digest(new.digest), "alice")
    return right


async def content_is_there_while_somebody_links_it(metadata: Database) -> bool:
    blob = factories.blob()
    record = BlobRecord(blob.size, blob.content)
    await metadata.link_blob(REPO, name(blob), record)
    await asyncio.gather(metadata.unlink_blob(REPO, name(blob)), metadata.link_blob(OTHER, name(blob), record))
    return await metadata.blob(OTHER, name(blob)) == record


async def a_tag_never_points_at_nothing(metadata: Database) -> bool:
    image = factories.image()
    await metadata.publish(publication(REPO, image))
    await asyncio.gather(
        metadata.delete_manifest(REPO, digest(image.digest), "alice"), metadata.publish(publication(REPO, image, "tag"))
    )
    tagged = await metadata.tagged_manifest(REPO, tag("tag"))
    listed = await metadata.was_tagged(REPO, tag("tag"), digest(image.digest))
    return tagged is not None or listed


async def what_a_manifest_names_is_linked(metadata: Database) -> bool:
    image = factories.image(1)
    for blob in image.blobs:
        await metadata.link_blob(REPO, name(blob), BlobRecord(blob.size, blob.content))
    pushed, _ = await asyncio.gather(
        metadata.publish(publication(REPO, image, require_blobs=True)),
        metadata.unlink_blob(REPO, name(image.blobs[0])),
        return_exceptions=True,
    )
    stored = await metadata.manifest(REPO, digest(image.digest))
    return isinstance(pushed, ManifestBlobUnknown) == (stored is None)


async def what_is_mounted_is_there(metadata: Database) -> bool:
    blob = factories.blob()
    record = BlobRecord(blob.size, blob.content)
    await metadata.link_blob(REPO, name(blob), record)
    mounted, _ = await asyncio.gather(
        metadata.mount_blob(OTHER, name(blob), [REPO]), metadata.unlink_blob(REPO, name(blob))
    )
    return (await metadata.blob(OTHER, name(blob)) == record) == (mounted is not None)


RACES: Final[Sequence[Race]] = (
    one_of_four_makes_a_tag,
    a_repository_is_there_while_it_has_a_manifest,
    content_is_there_while_somebody_links_it,
    a_tag_never_points_at_nothing,
    what_a_manifest_names_is_linked,
    what_is_mounted_is_there,
)


@pytest.mark.parametrize("race", RACES)
async def test_it_has_one_outcome(metadata: Database, race: Race) -> None:
    assert [await race(metadata) for _ in range(ROUNDS)] == [True] * ROUNDS


@pytest.mark.parametrize("race", RACES[:3])
@pytest.mark.parametrize("reopen", ["postgres"], indirect=True)
async def test_it_is_lost_where_nothing_is_locked(
    metadata: Database, race: Race, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_locks(*_: object) -> list[Row]:
        return []

    monkeypatch.setattr(postgres, "_lock", no_locks)
    for _ in range(MOST_ROUNDS):
        if not await race(metadata):
            return
    pytest.fail("nothing went wrong without locks, so this test proves nothing of them")
