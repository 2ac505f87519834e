"""What every database does with the digests that the Pods of one owner are given."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import factories
from support.core import digest

if TYPE_CHECKING:
    from contract.conftest import Database, Open
    from support.clock import Clock

FIRST: Final = digest(factories.digest_of(b"first"))
SECOND: Final = digest(factories.digest_of(b"second", "sha512"))
OWNER: Final = "team-a/one"
IMAGE: Final = "registry.example.com/team/app:v1"


async def test_the_first_digest_stays(metadata: Database) -> None:
    assert await metadata.pin(OWNER, IMAGE, FIRST) == FIRST
    for _ in range(3):
        assert await metadata.pin(OWNER, IMAGE, SECOND) == FIRST


async def test_owners_and_images_have_their_own(metadata: Database) -> None:
    await metadata.pin(OWNER, IMAGE, FIRST)
    for owner, image in (
        ("team-b/one", IMAGE),
        ("team-a/two", IMAGE),
        ("team-a/one/", IMAGE),
        ("TEAM-A/one", IMAGE),
        (OWNER, "registry.example.com/team/app:V1"),
        (OWNER, "registry.example.com/team/app:v1 "),
        ("", ""),
    ):
        assert await metadata.pin(owner, image, SECOND) == SECOND, (owner, image)
    assert await metadata.pin(OWNER, IMAGE, SECOND) == FIRST


async def test_owners_and_images_are_any_text(metadata: Database) -> None:
    for text in ("'", "%", "_", "\x00", "a\x00b", "ü", "\U0001f600", "x" * 10_000):
        assert await metadata.pin(text, text, FIRST) == FIRST
        assert await metadata.pin(text, text, SECOND) == FIRST
    assert await metadata.pin("a", "a", SECOND) == SECOND


async def test_of_many_at_once_one_is_the_first(metadata: Database) -> None:
    given = [digest(factories.digest_of(b"%d" % number)) for number in range(50)]
    kept = set(await asyncio.gather(*(metadata.pin(OWNER, IMAGE, each) for each in given)))
    assert len(kept) == 1
    assert kept <= set(given)


async def test_digests_survive_a_restart(reopen: Open) -> None:
    await reopen().pin(OWNER, IMAGE, FIRST)
    assert await reopen().pin(OWNER, IMAGE, SECOND) == FIRST


async def test_what_nobody_used_for_long_is_forgotten(metadata: Database, clock: Clock) -> None:
    began = clock.now
    await metadata.pin("old", IMAGE, FIRST)
    await metadata.pin("used", IMAGE, FIRST)
    clock.now += 100
    await metadata.pin("new", IMAGE, FIRST)
    await metadata.pin("used", IMAGE, FIRST)
    for before in (began, began + 100):
        await metadata.drop_old_pins(before)
    kept = {owner: await metadata.pin(owner, IMAGE, SECOND) for owner in ("old", "used", "new")}
    assert kept == {"old": SECOND, "used": FIRST, "new": FIRST}
    await metadata.drop_old_pins(clock.now + 1)
    assert await metadata.pin("new", IMAGE, SECOND) == SECOND
