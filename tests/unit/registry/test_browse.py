from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import factories
from support.core import OTHER, REPO, digest, publication, tag
from trow.oci.errors import ManifestUnknown, NameUnknown
from trow.oci.page import Page, PageRequest
from trow.registry.browse import Browse

if TYPE_CHECKING:
    from trow.metadata.sqlite import SqliteMetadata

ALL = PageRequest(1000)


@pytest.fixture
def browse(metadata: SqliteMetadata) -> Browse:
    return Browse(metadata)


async def test_nothing_yet(browse: Browse) -> None:
    assert await browse.repositories(ALL) == Page([], more=False)
    assert await browse.referrers(REPO, digest(factories.image().digest), None, ALL) == Page([], more=False)
    with pytest.raises(NameUnknown):
        await browse.tags(REPO, ALL)
    with pytest.raises(ManifestUnknown):
        await browse.history(REPO, tag("v1"), ALL)


async def test_lists(browse: Browse, metadata: SqliteMetadata) -> None:
    image = factories.image()
    signature = factories.artifact(subject=image)
    await metadata.publish(publication(REPO, image, "v1", "v2"))
    await metadata.publish(publication(REPO, signature))
    await metadata.publish(publication(OTHER, factories.image()))
    assert await browse.repositories(ALL) == Page([REPO, OTHER], more=False)
    assert await browse.tags(REPO, PageRequest(1)) == Page(["v1"], more=True)
    assert await browse.tags(OTHER, ALL) == Page([], more=False)
    assert [event.digest for event in (await browse.history(REPO, tag("v1"), ALL)).items] == [image.digest]
    found = await browse.referrers(REPO, digest(image.digest), None, ALL)
    assert [each.digest for each in found.items] == [signature.digest]
    assert (await browse.referrers(OTHER, digest(image.digest), None, ALL)).items == []


async def test_history_stays_when_the_tag_is_gone(browse: Browse, metadata: SqliteMetadata) -> None:
    image = factories.image()
    await metadata.publish(publication(REPO, image, "v1"))
    await metadata.delete_manifest(REPO, digest(image.digest), "bob", 10)
    with pytest.raises(NameUnknown):
        await browse.tags(REPO, ALL)
    events = (await browse.history(REPO, tag("v1"), ALL)).items
    assert [(event.digest, event.subject) for event in events] == [(None, "bob"), (image.digest, "alice")]


async def test_page_of_referrers_is_no_larger_than_a_manifest_may_be(browse: Browse, metadata: SqliteMetadata) -> None:
    image = factories.image()
    for _ in range(6):
        artifact = factories.artifact(subject=image, annotations={"filling": "x" * 1_000_000})
        await metadata.publish(publication(REPO, artifact))
    sizes, last = [], ""
    while True:
        page = await browse.referrers(REPO, digest(image.digest), None, PageRequest(1000, last))
        sizes.append(len(page.items))
        if not page.more:
            break
        last = page.items[-1].digest
    assert sum(sizes) == 6
    assert max(sizes) <= 4
