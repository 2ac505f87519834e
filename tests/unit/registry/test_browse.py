from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import factories
from support.actors import Somebody, seeing
from support.core import OTHER, REPO, digest, publication, tag
from trow.oci.errors import ManifestUnknown, NameUnknown, Unavailable
from trow.oci.names import Repository
from trow.oci.page import Page, PageRequest
from trow.registry import browse as browsing
from trow.registry.browse import Browse

if TYPE_CHECKING:
    from support.metadata import EmbeddedMetadata

ALL = PageRequest(1000)


async def fill(metadata: EmbeddedMetadata, *names: str) -> None:
    image = factories.image(0)
    await asyncio.gather(*(metadata.publish(publication(Repository.parse(name), image)) for name in names))


async def pages(browse: Browse, limit: int, actor: Somebody, text: str = "") -> list[list[str]]:
    """The list as a client reads it: each page begins after the last name of the one before."""
    found, last = [], ""
    while True:
        page = await browse.repositories(PageRequest(limit, last), actor, text)
        found.append([*page.items])
        if not page.more:
            return found
        last = page.items[-1]


@pytest.fixture
def browse(metadata: EmbeddedMetadata) -> Browse:
    return Browse(metadata)


async def test_nothing_yet(browse: Browse) -> None:
    assert await browse.repositories(ALL, Somebody()) == Page([], more=False)
    assert await browse.referrers(REPO, digest(factories.image().digest), None, ALL) == Page([], more=False)
    with pytest.raises(NameUnknown):
        await browse.tags(REPO, ALL)
    with pytest.raises(ManifestUnknown):
        await browse.history(REPO, tag("v1"), ALL)


async def test_lists(browse: Browse, metadata: EmbeddedMetadata) -> None:
    image = factories.image()
    signature = factories.artifact(subject=image)
    await metadata.publish(publication(REPO, image, "v1", "v2"))
    await metadata.publish(publication(REPO, signature))
    await metadata.publish(publication(OTHER, factories.image()))
    assert await browse.repositories(ALL, Somebody()) == Page([REPO, OTHER], more=False)
    assert await browse.tags(REPO, PageRequest(1)) == Page(["v1"], more=True)
    assert await browse.tags(OTHER, ALL) == Page([], more=False)
    assert [event.digest for event in (await browse.history(REPO, tag("v1"), ALL)).items] == [image.digest]
    found = await browse.referrers(REPO, digest(image.digest), None, ALL)
    assert [each.digest for each in found.items] == [signature.digest]
    assert (await browse.referrers(OTHER, digest(image.digest), None, ALL)).items == []


async def test_history_stays_when_the_tag_is_gone(browse: Browse, metadata: EmbeddedMetadata) -> None:
    image = factories.image()
    await metadata.publish(publication(REPO, image, "v1"))
    await metadata.delete_manifest(REPO, digest(image.digest), "bob")
    with pytest.raises(NameUnknown):
        await browse.tags(REPO, ALL)
    events = (await browse.history(REPO, tag("v1"), ALL)).items
    assert [(event.digest, event.subject) for event in events] == [(None, "bob"), (image.digest, "alice")]


async def test_page_of_referrers_is_no_larger_than_a_manifest_may_be(
    browse: Browse, metadata: EmbeddedMetadata
) -> None:
    image = factories.image()
    for _ in range(100):
        artifact = factories.artifact(subject=image, annotations={"filling": "x" * 60_000})
        await metadata.publish(publication(REPO, artifact))
    sizes, last = [], ""
    while True:
        page = await browse.referrers(REPO, digest(image.digest), None, PageRequest(1000, last))
        sizes.append(len(page.items))
        if not page.more:
            break
        last = page.items[-1].digest
    assert sum(sizes) == 100
    assert max(sizes) <= 69


# What a client may not see


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_no_page_shows_a_name_that_is_not_visible_nor_ends_at_one(
    browse: Browse, metadata: EmbeddedMetadata, limit: int
) -> None:
    mine = ["mine/a", "mine/b", "mine/c", "mine/d"]
    await fill(metadata, "hidden/a", "hidden/b", *mine, "other/a", "zzz")
    found = await pages(browse, limit, seeing("mine/"))
    assert sum(found, []) == mine  # noqa: RUF017 - few pages
    assert all(len(page) == min(limit, 4) for page in found[:-1])
    assert all(found), "a page without names tells that there are others"


async def test_page_that_is_full_says_nothing_of_invisible_names_behind_it(
    browse: Browse, metadata: EmbeddedMetadata
) -> None:
    await fill(metadata, "mine/a", "mine/b", "other/a")
    assert await browse.repositories(PageRequest(2), seeing("mine/")) == Page(["mine/a", "mine/b"], more=False)


async def test_list_of_who_may_see_nothing_is_empty(browse: Browse, metadata: EmbeddedMetadata) -> None:
    await fill(metadata, "a", "b")
    assert await browse.repositories(PageRequest(1), seeing("none/")) == Page([], more=False)
    assert await browse.repositories(PageRequest(1, "a"), seeing("none/")) == Page([], more=False)


async def test_what_nobody_may_see_is_not_even_read(browse: Browse, metadata: EmbeddedMetadata) -> None:
    await fill(metadata, "hidden/a", "mine/a", "mine/app", "mine/b", "other/a", "zz/a")
    seen = seeing("mine/", ["mine/", "zz/"])
    for text, names in (("", ["mine/a", "mine/app", "mine/b"]), ("app", ["mine/app"])):
        page = await browse.repositories(ALL, seen, text)
        assert page == Page(names, more=False)
    assert seen.shown == [["mine/a", "mine/app", "mine/b", "zz/a"], ["mine/app"]]
    assert await browse.repositories(ALL, seeing("mine/", [])) == Page([], more=False)


async def test_page_of_no_names(browse: Browse, metadata: EmbeddedMetadata) -> None:
    await fill(metadata, "a")
    assert await browse.repositories(PageRequest(0), Somebody()) == Page([], more=False)


@pytest.mark.slow
async def test_many_invisible_names_are_read_over(browse: Browse, metadata: EmbeddedMetadata) -> None:
    hidden = [f"h{number:04}" for number in range(2500)]
    await fill(metadata, *hidden, "mine")
    seen = seeing("mine")
    assert await browse.repositories(PageRequest(10), seen) == Page(["mine"], more=False)
    assert [len(names) for names in seen.shown] == [1000, 1000, 501]
    assert sum(seen.shown, []) == [*hidden, "mine"]  # noqa: RUF017 - few pages


async def test_reading_over_invisible_names_has_an_end(
    browse: Browse, metadata: EmbeddedMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browsing, "_LEAST_READ", 2)
    monkeypatch.setattr(browsing, "_MOST_READS", 3)
    await fill(metadata, *(f"h{number}" for number in range(6)), "mine")
    seen = seeing("mine")
    with pytest.raises(Unavailable, match="too many"):
        await browse.repositories(PageRequest(1), seen)
    assert len(seen.shown) == 3


# A search


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_search_shows_what_is_visible_and_has_the_text(
    browse: Browse, metadata: EmbeddedMetadata, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(browsing, "_LEAST_READ", 2)
    await fill(
        metadata, "hidden/app", "mine/app", "mine/base", "mine/c/app", "mine/d", "mine/e", "mine/app-2", "zz/app"
    )
    wanted = ["mine/app", "mine/app-2", "mine/c/app"]
    found = await pages(browse, limit, seeing("mine/"), "app")
    assert sum(found, []) == wanted  # noqa: RUF017 - few pages
    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)
    assert all(found), "a page without names tells that there are others"


async def test_search_asks_only_about_what_has_the_text(browse: Browse, metadata: EmbeddedMetadata) -> None:
    await fill(metadata, "a/app", "b/base", "c/app")
    seen = seeing("a/")
    assert await browse.repositories(ALL, seen, "app") == Page(["a/app"], more=False)
    assert seen.shown == [["a/app", "c/app"]]


@pytest.mark.slow
async def test_search_is_read_a_stretch_at_a_time_and_others_get_their_turn(
    browse: Browse, metadata: EmbeddedMetadata
) -> None:
    await fill(metadata, *(f"r{number:04}" for number in range(3500)))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    seen = seeing("")
    assert await browse.repositories(PageRequest(10), seen, "r3499") == Page(["r3499"], more=False)
    task.cancel()
    assert [len(names) for names in seen.shown] == [0, 0, 0, 1]
    assert turns >= 3


async def test_search_that_finds_nothing_has_an_end(
    browse: Browse, metadata: EmbeddedMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browsing, "_LEAST_READ", 2)
    monkeypatch.setattr(browsing, "_MOST_READS", 3)
    await fill(metadata, *(f"r{number}" for number in range(7)))
    with pytest.raises(Unavailable, match="too many"):
        await browse.repositories(PageRequest(1), Somebody(), "r6")
    assert await browse.repositories(PageRequest(1, "r0"), Somebody(), "r6") == Page(["r6"], more=False)


async def test_list_ends_that_takes_too_long(
    browse: Browse, metadata: EmbeddedMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster is asked about each namespace; meanwhile the list has one of the few places that there are."""

    async def slow(_: Repository) -> bool:
        await asyncio.sleep(30)
        return False

    await fill(metadata, "team-a/app")
    monkeypatch.setattr(browsing, "_LONGEST_SECONDS", 0.05)
    with pytest.raises(Unavailable, match="takes too long"):
        await browse.repositories(ALL, Somebody(reads=slow))
