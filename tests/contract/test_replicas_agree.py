"""What replicas tell each other through the database: failed logins, and pulls that were allowed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

import factories
from support.clock import Clock
from support.core import REPO, digest, tag
from support.postgres import PostgresMetadata
from trow.identity.throttle import SharedThrottle
from trow.oci.errors import TooManyRequests
from trow.sql.postgres import PostgresSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres import PostgresServer

WINDOW: Final = 15 * 60
ALICE: Final = ("10.0.0.1", "alice")


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database() as made:
        yield made


def replicas(url: str, clock: Clock) -> list[SharedThrottle]:
    return [SharedThrottle(PostgresMetadata(PostgresSettings(url)), clock) for _ in range(2)]


async def wait(throttle: SharedThrottle, source: str = ALICE[0], user: str = ALICE[1]) -> int:
    try:
        await throttle.check(source, user)
    except TooManyRequests as error:
        return error.retry_after
    return 0


async def test_guesses_that_are_spread_over_replicas_wait_like_those_at_one(url: str) -> None:
    clock = Clock(1_000_000.0)
    here, there = replicas(url, clock)
    for number in range(4):
        await (here, there)[number % 2].failed(*ALICE)
    assert [await wait(each) for each in (here, there)] == [0, 0]
    await asyncio.gather(here.failed(*ALICE), there.failed(*ALICE))
    assert [await wait(each) for each in (here, there)] == [2, 2]
    assert [await wait(there, "10.0.0.2"), await wait(there, user="bob")] == [0, 0]
    await there.succeeded(*ALICE)
    assert await wait(here) == 0


async def test_a_window_ends_and_what_is_past_is_dropped(url: str) -> None:
    clock = Clock(1_000_000.0)
    here, there = replicas(url, clock)
    for _ in range(12):
        await here.failed(*ALICE)
    assert await wait(there) == 128
    clock.now += WINDOW
    assert await wait(there) == 0
    await there.failed(*ALICE)
    assert await wait(here) == 0
    clock.now += WINDOW
    await here.drop_old()
    metadata = PostgresMetadata(PostgresSettings(url))
    assert await metadata.failed_logins(*ALICE) is None


async def test_what_one_replica_has_allowed_another_finds_for_some_time(url: str) -> None:
    here, there = (PostgresMetadata(PostgresSettings(url)) for _ in range(2))
    digests = [digest(factories.blob().digest) for _ in range(3)]
    await here.add_allowed_pulls("node", REPO, digests, tag("v1"), 100.0)
    assert await there.allowed_pull("node", REPO, digests[1]) == (tag("v1"), 100.0)
    assert await there.allowed_pull("other", REPO, digests[1]) is None
    await there.add_allowed_pulls("node", REPO, digests[:1], tag("v2"), 200.0)
    await here.drop_allowed_pulls(150.0, 9)
    assert await here.allowed_pull("node", REPO, digests[0]) == (tag("v2"), 200.0)
    assert await here.allowed_pull("node", REPO, digests[1]) is None


async def test_no_more_is_remembered_than_was_said(url: str) -> None:
    metadata = PostgresMetadata(PostgresSettings(url))
    digests = [digest(factories.blob().digest) for _ in range(5)]
    for number, each in enumerate(digests):
        await metadata.add_failed_login("10.0.0.7", f"user-{number}", 100.0 + number, WINDOW)
        await metadata.add_allowed_pulls("node", REPO, [each], tag("v1"), 100.0 + number)
    await metadata.drop_failed_logins(0.0, 2)
    await metadata.drop_allowed_pulls(0.0, 2)
    counted = [await metadata.failed_logins("10.0.0.7", f"user-{number}") for number in range(5)]
    assert [each is not None for each in counted] == [False, False, False, True, True]
    allowed = [await metadata.allowed_pull("node", REPO, each) for each in digests]
    assert [each is not None for each in allowed] == [False, False, False, True, True]
