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
TEAM: Final = "team-a"
OWNER: Final = "one"
IMAGE: Final = "registry.example.com/team/app:v1"


async def test_the_first_digest_stays(metadata: Database) -> None:
    assert await metadata.pin(TEAM, OWNER, IMAGE, FIRST) == FIRST
    for _ in range(3):
        assert await metadata.pin(TEAM, OWNER, IMAGE, SECOND) == FIRST


async def test_owners_and_images_have_their_own(metadata: Database) -> None:
    await metadata.pin(TEAM, OWNER, IMAGE, FIRST)
    for other in (
        ("team-b", OWNER, IMAGE),
        ("TEAM-A", OWNER, IMAGE),
        (TEAM, "two", IMAGE),
        (TEAM, "one/", IMAGE),
        (TEAM, OWNER, "registry.example.com/team/app:V1"),
        (TEAM, OWNER, "registry.example.com/team/app:v1 "),
        ("", "", ""),
    ):
        assert await metadata.pin(*other, SECOND) == SECOND, other
    assert await metadata.pin(TEAM, OWNER, IMAGE, SECOND) == FIRST


async def test_owners_and_images_are_any_text(metadata: Database) -> None:
    for text in ("'", "%", "_", "\x00", "a\x00b", "ü", "\U0001f600", "x" * 10_000):
        assert await metadata.pin(text, text, text, FIRST) == FIRST
        assert await metadata.pin(text, text, text, SECOND) == FIRST
    assert await metadata.pin("a", "a", "a", SECOND) == SECOND


async def test_of_many_at_once_one_is_the_first(metadata: Database) -> None:
    given = [digest(factories.digest_of(b"%d" % number)) for number in range(50)]
    kept = set(await asyncio.gather(*(metadata.pin(TEAM, OWNER, IMAGE, each) for each in given)))
    assert len(kept) == 1
    assert kept <= set(given)


async def test_digests_survive_a_restart(reopen: Open) -> None:
    await reopen().pin(TEAM, OWNER, IMAGE, FIRST)
    assert await reopen().pin(TEAM, OWNER, IMAGE, SECOND) == FIRST


async def test_what_nobody_used_for_long_is_forgotten(metadata: Database, clock: Clock) -> None:
    began = clock.now
    await metadata.pin(TEAM, "old", IMAGE, FIRST)
    await metadata.pin(TEAM, "used", IMAGE, FIRST)
    clock.now += 100
    await metadata.pin(TEAM, "new", IMAGE, FIRST)
    await metadata.pin(TEAM, "used", IMAGE, FIRST)
    for before in (began, began + 100):
        await metadata.drop_old_pins(before, most=10)
    kept = {owner: await metadata.pin(TEAM, owner, IMAGE, SECOND) for owner in ("old", "used", "new")}
    assert kept == {"old": SECOND, "used": FIRST, "new": FIRST}
    await metadata.drop_old_pins(clock.now + 1, most=10)
    assert await metadata.pin(TEAM, "new", IMAGE, SECOND) == SECOND


async def test_each_namespace_keeps_those_that_were_used_last(metadata: Database, clock: Clock) -> None:
    began = clock.now
    for number in range(5):
        clock.now += 1
        await metadata.pin(TEAM, f"owner-{number}", IMAGE, FIRST)
    await metadata.pin("team-b", OWNER, IMAGE, FIRST)
    clock.now += 1
    await metadata.pin(TEAM, "owner-0", IMAGE, FIRST)
    await metadata.drop_old_pins(began, most=3)
    kept = [number for number in range(5) if await metadata.pin(TEAM, f"owner-{number}", IMAGE, SECOND) == FIRST]
    assert kept == [0, 3, 4]
    assert await metadata.pin("team-b", OWNER, IMAGE, SECOND) == FIRST
