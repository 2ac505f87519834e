"""What every database of metadata does."""

from __future__ import annotations

import asyncio
import json
import re
import tracemalloc
from typing import TYPE_CHECKING

import pytest

import factories
from factories import DOCKER_IMAGE, OCI_IMAGE
from support.core import OTHER, REPO, digest, publication, tag
from trow.oci.errors import ManifestBlobUnknown, ManifestExists, ManifestInvalid, TagExists, UploadUnknown
from trow.oci.names import Repository, Tag, UploadId
from trow.oci.page import NameRange, Page, PageRequest
from trow.registry.location import BlobLocation
from trow.registry.ports import (
    BlobRecord,
    ManifestRecord,
    Publication,
    PublicationResult,
    Referrer,
    RepositoryRecord,
    ScanPage,
    TagEvent,
    TagMove,
    UploadBounds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from factories import Blob, Manifest
    from support.clock import Clock
    from support.fixtures import Database, Open
    from trow.oci.digest import Digest

ALL = PageRequest(1000)
MOST_BYTES = 4_000_000
BOUNDS = UploadBounds(10, 10, 10)


def name(of: Blob | Manifest) -> Digest:
    return digest(of.digest)


def record(blob: Blob, *, inline: bool = True) -> BlobRecord:
    return BlobRecord(blob.size, blob.content if inline else None)


async def link(metadata: Database, repository: Repository, *blobs: Blob, inline: bool = True) -> None:
    for blob in blobs:
        await metadata.link_blob(repository, name(blob), record(blob, inline=inline))


async def history(metadata: Database, of: str, page: PageRequest = ALL) -> list[TagEvent] | None:
    found = await metadata.tag_history(REPO, tag(of), page)
    return None if found is None else [*found.items]


# Manifests


async def test_manifest_is_kept_byte_for_byte(metadata: Database) -> None:
    image = factories.image()
    kept = ManifestRecord(name(image), OCI_IMAGE, image.raw)
    assert await metadata.manifest(REPO, name(image)) is None
    assert await metadata.tagged_manifest(REPO, tag("v1")) is None
    await metadata.publish(publication(REPO, image, "v1"))
    assert await metadata.manifest(REPO, name(image)) == kept
    assert await metadata.tagged_manifest(REPO, tag("v1")) == kept
    assert await metadata.manifest(OTHER, name(image)) is None
    assert await metadata.tagged_manifest(OTHER, tag("v1")) is None
    assert await metadata.tagged_manifest(REPO, tag("v2")) is None


async def test_manifest_that_is_pushed_again(metadata: Database) -> None:
    raw = factories.encode({name: value for name, value in factories.image().document.items() if name != "mediaType"})
    for media_type in (OCI_IMAGE, OCI_IMAGE, DOCKER_IMAGE):
        image = factories.Manifest(raw, media_type)
        await metadata.publish(publication(REPO, image, "v1"))
        found = await metadata.manifest(REPO, name(image))
        assert found is not None
        assert (found.media_type, found.content) == (media_type, raw)


async def test_same_manifest_in_two_repositories(metadata: Database) -> None:
    image = factories.image()
    for repository in (REPO, OTHER):
        await metadata.publish(publication(repository, image))
    await metadata.delete_manifest(REPO, name(image), "")
    assert await metadata.manifest(REPO, name(image)) is None
    assert await metadata.manifest(OTHER, name(image)) is not None


async def test_tag_moves(metadata: Database) -> None:
    first, second = factories.image(), factories.image()
    for image in (first, second):
        await metadata.publish(publication(REPO, image, "v1"))
    found = await metadata.tagged_manifest(REPO, tag("v1"))
    assert found is not None
    assert found.digest == second.digest
    assert await metadata.manifest(REPO, name(first)) is not None


async def test_reader_sees_every_change_at_once(metadata: Database) -> None:
    """Whatever is remembered of an answer is forgotten with the next change."""
    first, second = factories.image(), factories.image()
    docker = factories.Manifest(factories.encode({**first.document, "mediaType": None}), DOCKER_IMAGE)

    async def seen() -> list[str | None]:
        found = [await metadata.tagged_manifest(REPO, tag(each)) for each in ("a", "b")]
        found += [await metadata.manifest(REPO, name(each)) for each in (first, second)]
        return [None if each is None else each.digest for each in found]

    assert await seen() == [None, None, None, None]
    await metadata.publish(publication(REPO, first, "a", "b"))
    assert await seen() == [first.digest, first.digest, first.digest, None]
    await metadata.publish(publication(REPO, second, "a"))
    assert await seen() == [second.digest, first.digest, first.digest, second.digest]
    await metadata.delete_tag(REPO, tag("a"), "")
    assert await seen() == [None, first.digest, first.digest, second.digest]
    await metadata.delete_manifest(REPO, name(first), "")
    assert await seen() == [None, None, None, second.digest]
    for media_type in (OCI_IMAGE, DOCKER_IMAGE):
        image = factories.Manifest(docker.raw, media_type)
        await metadata.publish(publication(REPO, image, "a"))
        found = await metadata.tagged_manifest(REPO, tag("a"))
        assert found is not None
        assert found.media_type == media_type


async def test_reader_never_sees_what_was_before_a_finished_write(metadata: Database) -> None:
    images = [factories.image() for _ in range(30)]
    order = {image.digest: number for number, image in enumerate(images)}
    written = -1

    async def write() -> None:
        nonlocal written
        for number, image in enumerate(images):
            await metadata.publish(publication(REPO, image, "v1"))
            written = number

    async def read() -> int:
        count = 0
        while written < len(images) - 1:
            since = written
            found = await metadata.tagged_manifest(REPO, tag("v1"))
            if found is not None:
                assert order[found.digest] >= since
                count += 1
            await asyncio.sleep(0)
        return count

    counts, _ = await asyncio.gather(read(), write())
    assert counts > 0


async def test_many_tags_at_once(metadata: Database) -> None:
    names = [f"v{number}" for number in range(100)]
    await metadata.publish(publication(REPO, factories.image(), *names))
    assert await metadata.tags(REPO, ALL) == Page(sorted(names), more=False)


async def test_delete_of_a_manifest(metadata: Database) -> None:
    image, other = factories.image(), factories.image()
    await metadata.publish(publication(REPO, image, "a", "b"))
    await metadata.publish(publication(REPO, other, "c"))
    assert await metadata.delete_manifest(OTHER, name(image), "") is None
    assert sorted(await metadata.delete_manifest(REPO, name(image), "") or []) == ["a", "b"]
    assert await metadata.delete_manifest(REPO, name(image), "") is None
    assert await metadata.manifest(REPO, name(image)) is None
    assert await metadata.tagged_manifest(REPO, tag("a")) is None
    assert await metadata.tags(REPO, ALL) == Page(["c"], more=False)


async def test_repository_goes_with_its_last_manifest(metadata: Database) -> None:
    image, other = factories.image(), factories.image()
    for each in (image, other):
        await metadata.publish(publication(REPO, each))
    await metadata.delete_manifest(REPO, name(image), "")
    assert await metadata.repositories(ALL) == Page([REPO], more=False)
    await metadata.delete_manifest(REPO, name(other), "")
    assert await metadata.repositories(ALL) == Page([], more=False)
    assert await metadata.tags(REPO, ALL) is None
    await metadata.publish(publication(REPO, image))
    assert await metadata.repositories(ALL) == Page([REPO], more=False)


async def test_delete_of_a_tag(metadata: Database) -> None:
    image = factories.image()
    await metadata.publish(publication(REPO, image, "a", "b"))
    assert await metadata.delete_tag(OTHER, tag("a"), "") is None
    assert await metadata.delete_tag(REPO, tag("a"), "") == image.digest
    assert await metadata.delete_tag(REPO, tag("a"), "") is None
    assert await metadata.tagged_manifest(REPO, tag("a")) is None
    assert await metadata.manifest(REPO, name(image)) is not None
    await metadata.delete_tag(REPO, tag("b"), "")
    assert await metadata.tags(REPO, ALL) == Page([], more=False)


async def test_delete_of_a_manifest_without_tags_is_no_missing_manifest(metadata: Database) -> None:
    image = factories.image()
    await metadata.publish(publication(REPO, image))
    assert await metadata.delete_manifest(REPO, name(image), "") == []


# Moves


async def test_publication_tells_which_tags_moved_and_from_where(metadata: Database) -> None:
    first, second = factories.image(), factories.image()
    created = await metadata.publish(publication(REPO, first, "a", "b"))
    assert created.moves == (TagMove(tag("a"), None), TagMove(tag("b"), None))
    assert (await metadata.publish(publication(REPO, first, "a"))).moves == ()
    moved = await metadata.publish(publication(REPO, second, "a", "c"))
    assert moved.moves == (TagMove(tag("a"), name(first)), TagMove(tag("c"), None))
    await metadata.delete_tag(REPO, tag("a"), "")
    assert (await metadata.publish(publication(REPO, first, "a"))).moves == (TagMove(tag("a"), None),)


async def test_tag_that_may_not_move_refuses_the_whole_publication(metadata: Database) -> None:
    first, second = factories.image(), factories.image()
    await metadata.publish(publication(REPO, first, "b"))
    with pytest.raises(TagExists, match="the tag b exists"):
        await metadata.publish(publication(REPO, second, "a", "b", "c", overwrite=False))
    assert await metadata.manifest(REPO, name(second)) is None
    assert await metadata.tags(REPO, ALL) == Page(["b"], more=False)
    found = await metadata.tagged_manifest(REPO, tag("b"))
    assert found is not None
    assert found.digest == first.digest
    assert len(await history(metadata, "b") or []) == 1
    assert await history(metadata, "a") is None


async def test_manifest_that_may_not_become_another_media_type(metadata: Database) -> None:
    image = factories.image(0)
    raw = factories.encode(image.document | {"mediaType": None})
    oci, docker = (factories.Manifest(raw, each, image.blobs) for each in (OCI_IMAGE, DOCKER_IMAGE))
    assert (await metadata.publish(publication(REPO, oci, "a", overwrite=False))).previous_type == ""
    assert (await metadata.publish(publication(REPO, oci, "a", overwrite=False))).previous_type == ""
    with pytest.raises(ManifestExists, match=f"is stored as {re.escape(OCI_IMAGE)}"):
        await metadata.publish(publication(REPO, docker, "b", overwrite=False))
    assert await metadata.tags(REPO, ALL) == Page(["a"], more=False)
    for _ in range(2):
        found = await metadata.manifest(REPO, name(oci))
        assert found is not None
        assert found.media_type == OCI_IMAGE
    assert (await metadata.publish(publication(REPO, docker, "b"))).previous_type == OCI_IMAGE
    found = await metadata.tagged_manifest(REPO, tag("a"))
    assert found is not None
    assert found.media_type == DOCKER_IMAGE
    assert (await metadata.publish(publication(OTHER, oci, "a", overwrite=False))).previous_type == ""


async def test_tag_that_may_not_move_may_be_made_and_may_stay(metadata: Database) -> None:
    image = factories.image()
    for _ in range(2):
        await metadata.publish(publication(REPO, image, "a", overwrite=False))
    assert await metadata.tags(REPO, ALL) == Page(["a"], more=False)


async def test_of_many_who_may_only_create_a_tag_one_does(metadata: Database) -> None:
    images = [factories.image() for _ in range(30)]
    writes = (metadata.publish(publication(REPO, image, "v1", overwrite=False)) for image in images)
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(answer, TagExists) for answer in answers) == 29
    assert len(await history(metadata, "v1") or []) == 1


# Repositories


async def test_repository_has_a_number_of_its_own_and_knows_who_made_it(metadata: Database) -> None:
    assert await metadata.repository(REPO) is None
    assert await metadata.generation() == 0
    await metadata.publish(publication(REPO, factories.image(), "v1", subject="alice"))
    first = RepositoryRecord(1, "alice")
    assert await metadata.repository(REPO) == first
    assert await metadata.repository(OTHER) is None
    await metadata.publish(publication(REPO, factories.image(), "v1", subject="bob"))
    await metadata.delete_tag(REPO, tag("v1"), "bob")
    assert await metadata.repository(REPO) == first
    assert await metadata.generation() == 1
    await metadata.publish(publication(OTHER, factories.image(), subject="bob"))
    assert await metadata.repository(OTHER) == RepositoryRecord(2, "bob")
    assert await metadata.generation() == 2


async def test_repository_that_was_gone_is_another_one(metadata: Database) -> None:
    one, two = factories.image(), factories.image()
    for image in (one, two):
        await metadata.publish(publication(REPO, image, subject="alice"))
    await metadata.delete_manifest(REPO, name(one), "")
    assert await metadata.repository(REPO) is not None
    await metadata.delete_manifest(REPO, name(two), "")
    assert await metadata.repository(REPO) is None
    assert await metadata.generation() == 1, "no number comes twice"
    await metadata.publish(publication(REPO, one, subject="bob"))
    assert await metadata.repository(REPO) == RepositoryRecord(2, "bob")


async def test_repository_is_not_made_by_a_publication_that_fails(metadata: Database) -> None:
    with pytest.raises(ManifestBlobUnknown):
        await metadata.publish(publication(REPO, factories.image(), require_blobs=True))
    assert await metadata.repository(REPO) is None
    assert await metadata.generation() == 0


async def test_repository_is_known_after_a_restart(reopen: Open) -> None:
    await reopen().publish(publication(REPO, factories.image(), subject="alice"))
    assert await reopen().repository(REPO) == RepositoryRecord(1, "alice")
    assert await reopen().generation() == 1


async def test_robot_token_that_nobody_made_is_absent(metadata: Database) -> None:
    assert await metadata.robot_token("aaaaaaaaaaaa") is None


# What a manifest refers to


async def test_missing_content_is_told(metadata: Database) -> None:
    image, index = factories.image(2), factories.index()
    await link(metadata, REPO, image.blobs[0])
    await link(metadata, OTHER, image.blobs[1])
    found = await metadata.publish(publication(REPO, image))
    assert found == PublicationResult(missing_blobs=tuple(map(name, image.blobs[1:])))
    found = await metadata.publish(publication(REPO, index))
    assert found == PublicationResult(missing_children=tuple(map(name, index.children)))
    await link(metadata, REPO, *image.blobs)
    for child in index.children:
        await metadata.publish(publication(REPO, child))
    assert await metadata.publish(publication(REPO, image)) == PublicationResult()
    assert await metadata.publish(publication(REPO, index)) == PublicationResult()


async def test_missing_content_that_is_required(metadata: Database) -> None:
    image, index = factories.image(2), factories.index()
    for each in (
        publication(REPO, image, "v1", require_blobs=True),
        publication(REPO, index, "v1", require_children=True),
    ):
        with pytest.raises(ManifestBlobUnknown):
            await metadata.publish(each)
    await metadata.publish(publication(OTHER, image, require_children=True))
    await metadata.publish(publication(OTHER, index, require_blobs=True))
    assert await metadata.tags(REPO, ALL) is None


@pytest.mark.parametrize("inline", [True, False])
async def test_size_that_contradicts_the_blob(metadata: Database, inline: bool) -> None:  # noqa: FBT001
    image = factories.image(1)
    layer = image.blobs[1]
    await metadata.link_blob(REPO, name(layer), BlobRecord(layer.size + 1, b"" if inline else None))
    with pytest.raises(ManifestInvalid):
        await metadata.publish(publication(REPO, image, "v1", require_sizes=True))
    assert await metadata.manifest(REPO, name(image)) is None
    result = await metadata.publish(publication(REPO, image, "v1"))
    assert result.wrong_sizes == (name(layer),)
    assert await metadata.manifest(REPO, name(image)) is not None


async def test_publication_that_fails_leaves_nothing(metadata: Database) -> None:
    """No half of a push is ever seen: the failure comes when the manifest and the first tag have been written."""
    image = factories.image()
    good = publication(REPO, image, "a")
    bad = Publication(
        repository=REPO,
        digest=good.digest,
        manifest=good.manifest,
        tags=[tag("a"), Tag("\ud800")],  # no database can store it
        subject="",
        rules=good.rules,
    )
    with pytest.raises(Exception, match="surrogate"):
        await metadata.publish(bad)
    assert await metadata.manifest(REPO, name(image)) is None
    assert await metadata.tags(REPO, ALL) is None
    assert await history(metadata, "a") is None
    await metadata.publish(good)
    assert await metadata.tags(REPO, ALL) == Page(["a"], more=False)


# Lists


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
async def test_pages_are_in_byte_order(metadata: Database, limit: int) -> None:
    names = ["A", "Z", "_", "a", "a-b", "a.b", "a0", "aa"]
    await metadata.publish(publication(REPO, factories.image(), *reversed(names)))
    found: list[str] = []
    for _ in names:
        page = await metadata.tags(REPO, PageRequest(limit, found[-1] if found else ""))
        assert page is not None
        assert 1 <= len(page.items) <= limit
        found += page.items
        if not page.more:
            break
    assert found == names == sorted(names)


async def test_pages_of_repositories(metadata: Database) -> None:
    names = ["a", "a-b/c", "a/b", "a0", "b"]
    for each in reversed(names):
        await metadata.publish(publication(Repository.parse(each), factories.image()))
    assert names == sorted(names)
    assert await metadata.repositories(PageRequest(3)) == Page(names[:3], more=True)
    assert await metadata.repositories(PageRequest(2, names[2])) == Page(names[3:], more=False)
    assert await metadata.repositories(PageRequest(2, "a.")) == Page(names[2:4], more=True)  # after what is not there
    assert await metadata.repositories(PageRequest(2, "c")) == Page([], more=False)


@pytest.mark.parametrize("text", ["", "p"])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_repositories_are_looked_for_only_where_they_may_be(metadata: Database, limit: int, text: str) -> None:
    names = ["a", "a/p", "ap", "b/p", "b/p-1", "b/p/q", "b/q", "bp", "c/p", "d", "z/p"]
    await asyncio.gather(*(metadata.publish(publication(Repository.parse(each), factories.image(0))) for each in names))
    within = [NameRange.beginning_with(each) for each in ("a/", "b/p", "c", "x", "z/p")]
    wanted = [each for each in names if each.startswith(("a/", "b/p", "c", "x", "z/p"))]
    found: list[str] = []
    last = ""
    for _ in range(100):
        if text:
            scan = await metadata.search_repositories(text, PageRequest(limit, last), within)
            found += scan.names
            if scan.cursor is None:
                break
            assert scan.cursor > last
            last = scan.cursor
        else:
            page = await metadata.repositories(PageRequest(limit, last), within)
            found += page.items
            if not page.more:
                break
            last = page.items[-1]
    assert found == wanted
    assert await metadata.repositories(ALL, []) == Page([], more=False)
    assert await metadata.search_repositories("p", ALL, []) == ScanPage([], None)


# Search in the names of repositories


async def fill(metadata: Database, *names: str) -> None:
    image = factories.image(0)
    await asyncio.gather(*(metadata.publish(publication(Repository(each), image)) for each in names))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["a", "a-b/c", "a.b", "a/b", "a0", "a_b", "b"]),
        ("a", ["a", "a-b/c", "a.b", "a/b", "a0", "a_b"]),
        ("b", ["a-b/c", "a.b", "a/b", "a_b", "b"]),
        ("/", ["a-b/c", "a/b"]),
        ("a/b", ["a/b"]),
        ("-b/c", ["a-b/c"]),
        ("a_b", ["a_b"]),
        ("_", ["a_b"]),
        (".", ["a.b"]),
        ("a.b", ["a.b"]),
        ("a-b/c/", []),
        ("//", []),
        ("__", []),
        ("a__b", []),
        ("a" * 255, []),
        ("_" * 255, []),
        # No name has these, and none of them stands for what a name has.
        *[(text, []) for text in ("%", "a%", "%b", "!", "!_", "a!_b", "\\", "\\_", "*", "?", "[ab]", "'", "\x7f")],
    ],
)
async def test_search_finds_the_text_and_nothing_that_it_could_stand_for(
    metadata: Database, text: str, found: list[str]
) -> None:
    await fill(metadata, "b", "a_b", "a0", "a/b", "a.b", "a-b/c", "a")
    assert await metadata.search_repositories(text, ALL) == ScanPage(found, None)


@pytest.mark.parametrize("text", ["%", "_", "!", "!%", "%_!", "a%"])
async def test_search_takes_every_character_for_itself(metadata: Database, text: str) -> None:
    """Whatever grammar names may have one day."""
    await fill(metadata, f"a{text}b", f"a{'x' * len(text)}b", "a")
    assert await metadata.search_repositories(text, ALL) == ScanPage([f"a{text}b"], None)


async def test_search_looks_at_one_stretch_at_a_time(metadata: Database) -> None:
    await fill(metadata, "a", "b1", "c", "d1", "e1", "f", "g", "h1")
    for page, scan in [
        (PageRequest(3), ScanPage(["b1"], "c")),
        (PageRequest(3, "c"), ScanPage(["d1", "e1"], "f")),
        (PageRequest(3, "f"), ScanPage(["h1"], None)),
        (PageRequest(2, "e1"), ScanPage([], "g")),  # found nothing, and is not at the end
        (PageRequest(1, "a"), ScanPage(["b1"], "b1")),
        (PageRequest(1, "g"), ScanPage(["h1"], None)),
        (PageRequest(1, "h1"), ScanPage([], None)),
        (PageRequest(7), ScanPage(["b1", "d1", "e1"], "g")),
        (PageRequest(8), ScanPage(["b1", "d1", "e1", "h1"], None)),
        (PageRequest(2, "b2"), ScanPage(["d1"], "d1")),  # after what is not there
        (PageRequest(2, "zzz"), ScanPage([], None)),
    ]:
        assert await metadata.search_repositories("1", page) == scan, page


async def test_search_finds_repositories_as_the_list_has_them(metadata: Database) -> None:
    """Those with nothing but blobs are not there, nor are those whose last manifest is gone."""
    image, blob = factories.image(), factories.blob()
    await metadata.publish(publication(REPO, image, "v1"))
    await link(metadata, OTHER, blob)
    for _ in range(2):
        assert await metadata.search_repositories("/", ALL) == ScanPage([REPO], None)
        await metadata.delete_manifest(REPO, name(image), "")
        assert await metadata.search_repositories("/", ALL) == ScanPage([], None)
        await metadata.publish(publication(REPO, image))


async def test_page_of_no_entries(metadata: Database) -> None:
    image = factories.image()
    await metadata.publish(publication(REPO, image, "a"))
    await metadata.publish(publication(REPO, factories.artifact(subject=image)))
    none = PageRequest(0)
    empty: Page[object] = Page([], more=False)
    assert await metadata.tags(REPO, none) == empty
    assert await metadata.repositories(none) == empty
    assert await metadata.referrers(REPO, name(image), None, none, MOST_BYTES) == empty
    assert await metadata.tag_history(REPO, tag("a"), none) == empty


async def test_tags_of_another_repository_are_not_listed(metadata: Database) -> None:
    await metadata.publish(publication(REPO, factories.image(), "a"))
    await metadata.publish(publication(OTHER, factories.image(), "b"))
    assert await metadata.tags(REPO, ALL) == Page(["a"], more=False)


# History of a tag


async def test_history_tells_who_when_and_what(metadata: Database, clock: Clock) -> None:
    first, second = factories.image(), factories.image()
    start = clock.now
    assert await history(metadata, "v1") is None
    await metadata.publish(publication(REPO, first, "v1", subject="alice"))
    clock.now += 10
    await metadata.publish(publication(REPO, second, "v1", subject=""))
    clock.now += 10
    await metadata.delete_tag(REPO, tag("v1"), "bob")
    clock.now += 10
    await metadata.publish(publication(REPO, first, "v1", subject="carol"))
    clock.now += 10.5
    await metadata.delete_manifest(REPO, name(first), "dave")
    assert await history(metadata, "v1") == [
        TagEvent(5, None, start + 40.5, "dave"),
        TagEvent(4, name(first), start + 30, "carol"),
        TagEvent(3, None, start + 20, "bob"),
        TagEvent(2, name(second), start + 10, ""),
        TagEvent(1, name(first), start, "alice"),
    ]


async def test_push_that_changes_nothing_adds_no_line(metadata: Database) -> None:
    image = factories.image()
    for _ in range(3):
        await metadata.publish(publication(REPO, image, "v1"))
    assert len(await history(metadata, "v1") or []) == 1


async def test_history_keeps_as_many_lines_as_asked_for(reopen: Open) -> None:
    metadata = reopen(history=3)
    for _ in range(7):
        await metadata.publish(publication(REPO, factories.image(), "v1"))
    assert [event.sequence for event in await history(metadata, "v1") or []] == [7, 6, 5]
    metadata = reopen(history=2)
    await metadata.delete_tag(REPO, tag("v1"), "")
    assert [event.sequence for event in await history(metadata, "v1") or []] == [8, 7]


async def test_a_registry_vouches_for_what_a_tag_stands_for_or_once_did(metadata: Database) -> None:
    first, second, other = (factories.image() for _ in range(3))
    for image in (first, second):
        await metadata.publish(publication(REPO, image, "v1"))
    await metadata.publish(publication(REPO, other, "v2"))

    async def tag_verified(name: str, image: factories.Manifest, repository: Repository = REPO) -> bool:
        return await metadata.was_tagged(repository, tag(name), digest(image.digest))

    assert [await tag_verified("v1", each) for each in (first, second, other)] == [True, True, False]
    assert not await tag_verified("v2", first)
    assert not await tag_verified("v1", first, Repository.parse("else/where"))


async def test_a_digest_is_known_by_the_tags_that_stand_for_it_and_by_those_that_did(metadata: Database) -> None:
    old, new = factories.image(), factories.image()
    for name in ("v2", "latest", "b", "gone"):
        await metadata.publish(publication(REPO, old, name))
    await metadata.publish(publication(REPO, new, "latest"))
    await metadata.publish(publication(REPO, new, "b"))
    await metadata.delete_tag(REPO, tag("gone"), "")
    await metadata.publish(publication(REPO, old, "a"))

    async def known(image: factories.Manifest, most: int = 10, repository: Repository = REPO) -> list[str]:
        return [*await metadata.tagged_as(repository, digest(image.digest), most)]

    assert await known(old) == ["a", "v2", "b", "gone", "latest"]
    assert await known(new) == ["b", "latest"]
    assert await known(old, most=2) == ["a", "v2"]
    assert await known(old, repository=Repository.parse("else/where")) == []


async def test_without_history_only_what_a_tag_stands_for_now_is_vouched_for(reopen: Open) -> None:
    metadata = reopen(history=0)
    first, second = factories.image(), factories.image()
    for image in (first, second):
        await metadata.publish(publication(REPO, image, "v1"))
    assert not await metadata.was_tagged(REPO, tag("v1"), digest(first.digest))
    assert await metadata.was_tagged(REPO, tag("v1"), digest(second.digest))


async def test_no_history_is_kept_where_none_is_wanted(reopen: Open) -> None:
    metadata = reopen(history=0)
    images = [factories.image() for _ in range(3)]
    for image in images:
        await metadata.publish(publication(REPO, image, "v1"))
    found = await metadata.tagged_manifest(REPO, tag("v1"))
    assert found is not None
    assert found.digest == images[-1].digest
    assert not await history(metadata, "v1")


async def test_history_page_by_page(metadata: Database) -> None:
    for _ in range(5):
        await metadata.publish(publication(REPO, factories.image(), "v1"))
    pages = []
    for last in ("", "4", "2"):
        page = await metadata.tag_history(REPO, tag("v1"), PageRequest(2, last))
        assert page is not None
        pages.append(([event.sequence for event in page.items], page.more))
    assert pages == [([5, 4], True), ([3, 2], True), ([1], False)]
    assert await metadata.tag_history(REPO, tag("v1"), PageRequest(2, "1")) == Page([], more=False)


async def test_history_of_each_tag_is_its_own(metadata: Database) -> None:
    image = factories.image()
    await metadata.publish(publication(REPO, image, "a", "b"))
    await metadata.publish(publication(OTHER, image, "a"))
    await metadata.publish(publication(REPO, factories.image(), "b"))
    assert len(await history(metadata, "a") or []) == 1
    assert len(await history(metadata, "b") or []) == 2


# Referrers


async def test_referrers_are_told_of_in_order(metadata: Database) -> None:
    subject = factories.image()
    made = [
        factories.artifact("application/a", subject=subject, annotations={"org.example": "é"}),
        factories.image(subject=subject),
        factories.index([], subject=subject, artifact_type="application/b"),
        factories.index([], subject=subject),
    ]
    types = ["application/a", factories.OCI_CONFIG, "application/b", None]
    expected = [
        Referrer(name(each), each.media_type, each.size, kind, listed(each))
        for each, kind in zip(made, types, strict=True)
    ]
    for each in made:
        await metadata.publish(publication(REPO, each))
    found = await metadata.referrers(REPO, name(subject), None, ALL, MOST_BYTES)
    assert found == Page(sorted(expected, key=lambda referrer: referrer.digest), more=False)
    assert (await metadata.referrers(OTHER, name(subject), None, ALL, MOST_BYTES)).items == []
    assert (await metadata.referrers(REPO, name(made[0]), None, ALL, MOST_BYTES)).items == []


def listed(manifest: Manifest) -> str | None:
    """Its annotations as a list has them."""
    annotations = manifest.document.get("annotations")
    return None if annotations is None else json.dumps(annotations, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize(("size", "left_out"), [(65_536, False), (65_537, True), (1_000_000, True)])
async def test_annotations_that_are_larger_than_a_list_shows_are_left_out(
    metadata: Database,
    size: int,
    left_out: bool,  # noqa: FBT001
) -> None:
    subject = factories.image()
    annotations = {"filling": "x" * (size - len('{"filling":""}'))}
    artifact = factories.artifact(subject=subject, annotations=annotations)
    await metadata.publish(publication(REPO, artifact))
    (found,) = (await metadata.referrers(REPO, name(subject), None, ALL, MOST_BYTES)).items
    assert found.left_out == left_out
    assert found.annotations == (None if left_out else listed(artifact))


async def test_referrers_of_one_type(metadata: Database) -> None:
    subject = factories.image()
    for kind in ("application/a", "application/b", "application/a"):
        await metadata.publish(publication(REPO, factories.artifact(kind, subject=subject)))
    for kind, count in (("application/a", 2), ("application/b", 1), ("application/c", 0), ("application/A", 0)):
        found = await metadata.referrers(REPO, name(subject), kind, ALL, MOST_BYTES)
        assert [referrer.artifact_type for referrer in found.items] == [kind] * count


@pytest.mark.parametrize("kind", [None, "application/a"])
@pytest.mark.parametrize("limit", [1, 2, 5, 6])
async def test_referrers_page_by_page(metadata: Database, kind: str | None, limit: int) -> None:
    subject = factories.image()
    made = [factories.artifact("application/a", subject=subject) for _ in range(5)]
    for each in (*made, factories.artifact("application/b", subject=subject)):
        await metadata.publish(publication(REPO, each))
    everything = {*await all_referrers(metadata, subject, kind, PageRequest(limit), MOST_BYTES)}
    assert len(everything) == (6 if kind is None else 5)
    assert set(map(name, made)) <= everything


async def all_referrers(
    metadata: Database, subject: Manifest, kind: str | None, page: PageRequest, most_bytes: int
) -> list[Digest]:
    found: list[Digest] = []
    while True:
        part = await metadata.referrers(
            REPO, name(subject), kind, PageRequest(page.limit, found[-1] if found else ""), most_bytes
        )
        count, size = len(part.items), size_of(part.items)
        assert 1 <= count <= page.limit
        assert count == 1 or size <= most_bytes
        found += [referrer.digest for referrer in part.items]
        if not part.more:
            return found


def size_of(referrers: Sequence[Referrer]) -> int:
    """Bytes that the least of all answers needs for them."""
    documents = [
        {
            "mediaType": r.media_type,
            "size": r.size,
            "digest": r.digest,
            "annotations": json.loads(r.annotations or "{}"),
        }
        for r in referrers
    ]
    return len(json.dumps(documents, ensure_ascii=False, separators=(",", ":")).encode())


@pytest.mark.parametrize("letter", ["x", "é", "€", "😀", '"', "\\", "\n", "\x01"], ids=ascii)
async def test_page_of_referrers_has_a_bound_in_bytes(metadata: Database, letter: str) -> None:
    subject = factories.image()
    for _ in range(12):
        artifact = factories.artifact(subject=subject, annotations={"filling": letter * 10_000})
        await metadata.publish(publication(REPO, artifact))
    for most_bytes in (100, 25_000, 100_000):
        assert len(await all_referrers(metadata, subject, None, ALL, most_bytes)) == 12


async def test_page_of_referrers_takes_memory_for_what_it_tells(metadata: Database) -> None:
    """Whoever may push could otherwise make every reader's answer cost gigabytes."""
    subject = factories.image()
    for _ in range(300):
        artifact = factories.artifact(subject=subject, annotations={"filling": "x" * 60_000})
        await metadata.publish(publication(REPO, artifact))
    tracemalloc.start()
    try:
        page = await metadata.referrers(REPO, name(subject), None, ALL, 150_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(page.items), page.more) == (2, True)
    assert peak < 1_000_000


async def test_referrer_that_is_deleted_is_told_of_no_more(metadata: Database) -> None:
    subject = factories.image()
    artifact = factories.artifact(subject=subject)
    await metadata.publish(publication(REPO, subject))
    await metadata.publish(publication(REPO, artifact))
    await metadata.delete_manifest(REPO, name(subject), "")
    assert len((await metadata.referrers(REPO, name(subject), None, ALL, MOST_BYTES)).items) == 1
    await metadata.delete_manifest(REPO, name(artifact), "")
    assert len((await metadata.referrers(REPO, name(subject), None, ALL, MOST_BYTES)).items) == 0


# Blobs


@pytest.mark.parametrize("size", [0, 1, 60_000])
@pytest.mark.parametrize("inline", [True, False])
async def test_blob_is_known_where_it_is_linked(metadata: Database, size: int, inline: bool) -> None:  # noqa: FBT001
    blob = factories.blob(size)
    assert await metadata.blob(REPO, name(blob)) is None
    for _ in range(2):
        await link(metadata, REPO, blob, inline=inline)
        assert await metadata.blob(REPO, name(blob)) == record(blob, inline=inline)
        assert await metadata.blob(OTHER, name(blob)) is None
        assert (await metadata.usage()).blobs == 1


async def test_mount(metadata: Database) -> None:
    blob = factories.blob()
    third = Repository.parse("third")
    assert not await metadata.mount_blob(OTHER, name(blob), [REPO, third])
    assert not await metadata.mount_blob(OTHER, name(blob), [])
    await link(metadata, REPO, blob)
    assert not await metadata.mount_blob(OTHER, name(blob), [third])
    assert await metadata.blob(OTHER, name(blob)) is None
    for _ in range(2):
        assert await metadata.mount_blob(OTHER, name(blob), [third, REPO]) == REPO
        assert await metadata.blob(OTHER, name(blob)) == record(blob)


async def test_repositories_with_a_blob(metadata: Database) -> None:
    blob = factories.blob()
    repositories = [Repository.parse(each) for each in ("a", "b", "c")]
    assert await metadata.repositories_with(name(blob), 10) == []
    for each in repositories:
        await link(metadata, each, blob)
    assert set(await metadata.repositories_with(name(blob), 10)) == set(repositories)
    few = await metadata.repositories_with(name(blob), 2)
    assert len(few) == 2
    assert set(few) < set(repositories)


@pytest.mark.parametrize("inline", [True, False])
async def test_unlink(metadata: Database, inline: bool) -> None:  # noqa: FBT001
    blob = factories.blob()
    for each in (REPO, OTHER):
        await link(metadata, each, blob, inline=inline)
    assert await metadata.unlink_blob(REPO, name(blob))
    assert not await metadata.unlink_blob(REPO, name(blob))
    assert await metadata.blob(REPO, name(blob)) is None
    assert await metadata.blob(OTHER, name(blob)) == record(blob, inline=inline)


async def test_content_goes_with_the_last_link(metadata: Database) -> None:
    inside, outside = factories.blob(), factories.blob()
    await link(metadata, REPO, inside)
    await link(metadata, OTHER, inside)
    await link(metadata, REPO, outside, inline=False)
    await metadata.unlink_blob(REPO, name(inside))
    assert (await metadata.usage()).blobs == 2
    await metadata.unlink_blob(OTHER, name(inside))
    assert (await metadata.usage()).blobs == 1
    await metadata.unlink_blob(REPO, name(outside))
    assert (await metadata.usage()).blobs == 1  # its file is there, and whoever removes that has to know
    await link(metadata, REPO, inside)
    assert await metadata.blob(REPO, name(inside)) == record(inside)


# Many at once


async def test_many_writers(metadata: Database) -> None:
    """Each gets its own answer, and one that fails fails alone."""
    images = [factories.image(1) for _ in range(60)]

    async def push(number: int, image: Manifest) -> str:
        repository = Repository.parse(f"r{number % 7}")
        if number % 3:
            await link(metadata, repository, *image.blobs)
        try:
            await metadata.publish(publication(repository, image, f"v{number}", require_blobs=True))
        except ManifestBlobUnknown:
            return "refused"
        found = await metadata.tagged_manifest(repository, tag(f"v{number}"))
        return "stored" if found is not None and found.content == image.raw else "lost"

    answers = await asyncio.gather(*(push(number, image) for number, image in enumerate(images)))
    assert answers == ["stored" if number % 3 else "refused" for number in range(60)]


async def test_many_writers_of_one_tag(reopen: Open) -> None:
    metadata = reopen(history=100)
    images = [factories.image() for _ in range(40)]
    await asyncio.gather(*(metadata.publish(publication(REPO, image, "v1")) for image in images))
    events = await history(metadata, "v1")
    assert events is not None
    assert [event.sequence for event in events] == list(range(40, 0, -1))
    assert {event.digest for event in events} == set(map(name, images))
    found = await metadata.tagged_manifest(REPO, tag("v1"))
    assert found is not None
    assert found.digest == events[0].digest


def location_of(blob: Blob) -> BlobLocation:
    return BlobLocation.of(name(blob), UploadId.new())


async def test_blob_is_where_it_was_linked_last_and_its_former_location_is_doomed(
    metadata: Database, clock: Clock
) -> None:
    """Whoever pushes it again brings verified bytes; the former ones may be damaged without anybody knowing."""
    blob = factories.blob()
    first, second = BlobRecord(9, None, location_of(blob)), BlobRecord(9, None, location_of(blob))
    assert first.location is not None
    assert second.location is not None
    for record in (first, first):  # the second time after an answer that was lost
        await metadata.link_blob(REPO, name(blob), record)
        assert await metadata.knows_location(name(blob), first.location)
        assert not await metadata.doomed(clock() + 1, 9)
    await metadata.link_blob(OTHER, name(blob), second)
    assert await metadata.blob(REPO, name(blob)) == await metadata.blob(OTHER, name(blob)) == second
    assert await metadata.blob_files(REPO, [name(blob), name(factories.blob())]) == {name(blob): second}
    assert not await metadata.knows_location(name(blob), first.location)
    assert await metadata.knows_location(None, second.location)
    assert not await metadata.doomed(clock(), 9)
    assert await metadata.doomed(clock() + 1, 9) == [first.location]
    await metadata.forget_doomed([first.location])
    assert not await metadata.doomed(clock() + 1, 9)


async def test_doomed_locations_come_oldest_first(metadata: Database, clock: Clock) -> None:
    blob = factories.blob()
    records = [BlobRecord(9, None, location_of(blob)) for _ in range(5)]
    for record in records:
        await metadata.link_blob(REPO, name(blob), record)
        clock.now += 10
    assert await metadata.doomed(clock(), 3) == [each.location for each in records[:3]]
    assert await metadata.doomed(clock() - 15, 9) == [each.location for each in records[:3]]


async def test_reserved_location_is_doomed_unless_a_blob_is_linked_there(metadata: Database, clock: Clock) -> None:
    blob, kept, lost = factories.blob(), *(BlobLocation.of_upload(UploadId.new()) for _ in range(2))
    for each in (kept, kept, lost):
        assert await metadata.reserve(each)
    clock.now += 10
    await metadata.link_blob(REPO, name(blob), BlobRecord(9, None, kept))
    await metadata.link_blob(REPO, name(blob), BlobRecord(9, None, kept))  # after an answer that was lost
    assert await metadata.reserve(lost)  # its bytes still come
    assert not await metadata.reserve(kept)  # nobody may bring others there
    assert not await metadata.doomed(clock(), 9)
    clock.now += 10
    assert await metadata.doomed(clock(), 9) == [lost]
    assert await metadata.blob(REPO, name(blob)) == BlobRecord(9, None, kept)


async def test_no_blob_gets_to_a_location_whose_bytes_are_being_removed(metadata: Database, clock: Clock) -> None:
    """Also where that is done and forgotten: whoever comes back then has to send the bytes again."""
    blob, location = factories.blob(), BlobLocation.of_upload(UploadId.new())
    assert await metadata.reserve(location)
    clock.now += 10
    for _ in range(2):
        assert await metadata.doomed(clock(), 9) == [location]  # the second time after a crash
        assert not await metadata.reserve(location)
        with pytest.raises(UploadUnknown):
            await metadata.link_blob(REPO, name(blob), BlobRecord(9, None, location))
    await metadata.forget_doomed([location])
    with pytest.raises(UploadUnknown):
        await metadata.link_blob(REPO, name(blob), BlobRecord(9, None, location))
    assert await metadata.blob(REPO, name(blob)) is None


@pytest.mark.parametrize("round_", range(5))
async def test_link_and_removal_of_one_location_have_one_winner(
    metadata: Database,
    clock: Clock,
    round_: int,
) -> None:
    blobs = [(factories.blob(), BlobLocation.of_upload(UploadId.new())) for _ in range(10)]
    for _, location in blobs:
        await metadata.reserve(location)
    clock.now += 10

    async def link_one(blob: Blob, location: BlobLocation) -> BlobLocation | None:
        try:
            await metadata.link_blob(REPO, name(blob), BlobRecord(9, None, location))
        except UploadUnknown:
            return None
        return location

    linked, removed = await asyncio.gather(
        asyncio.gather(*(link_one(*each) for each in blobs)), metadata.doomed(clock(), 99)
    )
    assert sorted([*removed, *filter(None, linked)]) == sorted(location for _, location in blobs)


async def test_of_many_copies_that_come_at_once_all_but_one_are_doomed(metadata: Database, clock: Clock) -> None:
    blob = factories.blob()
    records = [BlobRecord(9, None, location_of(blob)) for _ in range(16)]
    await asyncio.gather(*(metadata.link_blob(REPO, name(blob), each) for each in records))
    found = await metadata.blob(REPO, name(blob))
    assert found in records
    doomed = await metadata.doomed(clock() + 1, 99)
    assert sorted(doomed) == sorted(each.location or "" for each in records if each != found)


async def test_link_and_unlink_at_once(metadata: Database) -> None:
    blob = factories.blob()

    async def turn(number: int) -> None:
        repository = Repository.parse(f"r{number}")
        for _ in range(5):
            await link(metadata, repository, blob)
            assert await metadata.blob(repository, name(blob)) == record(blob)
            await metadata.unlink_blob(repository, name(blob))

    await asyncio.gather(*map(turn, range(8)))
    assert (await metadata.usage()).blobs == 0


async def test_request_that_is_cancelled_disturbs_nobody(metadata: Database) -> None:
    images = [factories.image() for _ in range(20)]
    writes = [asyncio.create_task(metadata.publish(publication(REPO, image))) for image in images]
    await asyncio.sleep(0)
    for write in writes[::2]:
        write.cancel()
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert answers[1::2] == [PublicationResult(tuple(map(name, image.blobs))) for image in images[1::2]]
    for image in images[1::2]:
        assert await metadata.manifest(REPO, name(image)) is not None


# A restart


async def test_everything_is_there_after_a_restart(reopen: Open) -> None:
    image, blob = factories.image(), factories.blob()
    artifact = factories.artifact(subject=image)
    before = reopen()
    await before.publish(publication(REPO, image, "v1"))
    await before.publish(publication(REPO, artifact))
    await link(before, REPO, blob)
    for _ in range(2):
        after = reopen()
        found = await after.tagged_manifest(REPO, tag("v1"))
        assert found is not None
        assert found.content == image.raw
        assert [each.digest for each in (await after.referrers(REPO, name(image), None, ALL, MOST_BYTES)).items] == [
            artifact.digest
        ]
        assert await after.blob(REPO, name(blob)) == record(blob)
        assert len(await history(after, "v1") or []) == 1
