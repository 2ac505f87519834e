"""What every database does with the digests that the Pods of one owner are given."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import factories
from support.core import digest

if TYPE_CHECKING:
    from support.clock import Clock
    from support.fixtures import Database, Open

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


async def kept(metadata: Database, owners: str, count: int) -> list[int]:
    """Which of the owners have the digest that they were given first."""
    found = [await metadata.pin(TEAM, f"{owners}-{number}", IMAGE, SECOND) for number in range(count)]
    return [number for number, each in enumerate(found) if each == FIRST]


async def test_owners_that_one_source_invents_push_out_none_of_another(metadata: Database, clock: Clock) -> None:
    began = clock.now
    for number in range(5):
        clock.now += 1
        await metadata.pin(TEAM, f"real-{number}", IMAGE, FIRST, "192.0.2.1")
    for number in range(40):
        clock.now += 1
        await metadata.pin(TEAM, f"invented-{number}", IMAGE, FIRST, "192.0.2.66")
        # Whose it is does not change by asking for it.
        await metadata.pin(TEAM, "real-0", IMAGE, SECOND, "192.0.2.66")
    await metadata.drop_old_pins(began, most=15)
    assert await kept(metadata, "real", 5) == [0, 1, 2, 3, 4]
    assert await kept(metadata, "invented", 40) == list(range(30, 40))


async def test_a_source_keeps_what_was_used_last(metadata: Database, clock: Clock) -> None:
    began = clock.now
    for number in range(5):
        clock.now += 1
        await metadata.pin(TEAM, f"owner-{number}", IMAGE, FIRST, "192.0.2.1")
    clock.now += 1
    await metadata.pin(TEAM, "owner-0", IMAGE, FIRST, "192.0.2.1")
    await metadata.drop_old_pins(began, most=5)
    await metadata.drop_old_pins(began, most=3)
    assert await kept(metadata, "owner", 5) == [0, 3, 4]
