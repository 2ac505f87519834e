"""What the engine in PostgreSQL does when the server does not do what it should."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

import factories
from support.core import REPO, digest, publication, tag
from support.postgres import PostgresMetadata, PostgresServer
from trow.lib.errors import DatabaseError, SchemaError
from trow.metadata.manifest_cache import ManifestCache
from trow.metadata.store import SCHEMA, SqlMetadata
from trow.metadata.transactions import manifests, tags
from trow.oci.errors import OciError, Unavailable
from trow.sql.postgres import PostgresEngine, PostgresSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trow.sql.transaction import Row, Transaction

pytestmark = pytest.mark.slow

PUSHERS: Final = 8


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that may be killed."""
    with PostgresServer.start() as started:
        yield started


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    with server.database() as made:
        yield made


def one() -> Transaction[int]:
    ((number,),) = yield "SELECT 1", ()
    assert isinstance(number, int)
    return number


async def test_replicas_that_start_together_make_the_schema_once(url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        opening = (
            stack.enter_async_context(PostgresEngine.opened(PostgresSettings(url, connections=2), SCHEMA))
            for _ in range(5)
        )
        engines = await asyncio.gather(*opening)
        assert [await engine.read(one) for engine in engines] == [1] * 5


async def test_a_schema_of_a_newer_trow_is_refused(url: str) -> None:
    def ahead() -> Transaction[None]:
        yield "UPDATE trow_schema SET steps = 999", ()

    async with PostgresEngine.opened(PostgresSettings(url), SCHEMA) as engine:
        await engine.write(ahead)
    with pytest.raises(SchemaError, match=r"has schema 999, this version of Trow knows up to \d+; start the newer"):
        async with PostgresEngine.opened(PostgresSettings(url), SCHEMA):
            pass


@pytest.mark.parametrize(
    "wrong", ["postgresql://trow@127.0.0.1:1/trow", "http://127.0.0.1", "postgresql://nobody@127.0.0.1:{port}/none"]
)
async def test_a_server_that_cannot_be_reached_is_an_error_that_says_where_to_look(
    wrong: str, server: PostgresServer
) -> None:
    settings = PostgresSettings(wrong.format(port=server.port), timeout=5)
    with pytest.raises(DatabaseError, match=r"^PostgreSQL cannot be reached: .+; check postgres\.url$"):
        async with PostgresEngine.opened(settings, SCHEMA):
            pass


async def test_more_writers_than_connections_wait_for_their_turn(url: str) -> None:
    metadata = PostgresMetadata(PostgresSettings(url, connections=2))
    images = [factories.image() for _ in range(60)]
    await asyncio.gather(*(metadata.publish(publication(REPO, each)) for each in images))
    assert all([await metadata.manifest(REPO, digest(each.digest)) for each in images])


async def test_a_statement_that_takes_too_long_is_given_up_once(url: str) -> None:
    tries: list[int] = []

    def slow() -> Transaction[None]:
        tries.append(1)
        yield "SELECT pg_sleep(60)", ()

    async with PostgresEngine.opened(PostgresSettings(url, timeout=1), SCHEMA) as engine:
        with pytest.raises(Unavailable):
            await engine.write(slow)
    assert len(tries) == 1


async def test_a_server_that_takes_no_writes_is_told_of(url: str, server: PostgresServer) -> None:
    metadata = PostgresMetadata(PostgresSettings(url, timeout=5))
    await metadata.check()
    await asyncio.to_thread(server.configure, "default_transaction_read_only", "on")
    try:
        with pytest.raises(Unavailable, match="does not work at the moment"):
            await refused(metadata)
    finally:
        await asyncio.to_thread(server.configure, "default_transaction_read_only", "off")
    await accepted(metadata)


async def test_what_was_answered_is_there_after_the_server_was_killed_again_and_again(
    url: str, server: PostgresServer
) -> None:
    """Pushes go on meanwhile; some are refused, and the engine finds the server again by itself."""
    metadata = PostgresMetadata(PostgresSettings(url, connections=PUSHERS, timeout=10))
    await metadata.check()
    answered: list[str] = []
    refusals: list[OciError] = []
    over = asyncio.Event()

    async def push(number: int) -> None:
        while not over.is_set():
            label = f"v{number}-{len(answered)}-{len(refusals)}"
            try:
                await metadata.publish(publication(REPO, factories.image(), label))
                answered.append(label)
            except Unavailable as error:
                refusals.append(error)

    async def pushed(more: int) -> None:
        enough = len(answered) + more
        while len(answered) < enough:  # noqa: ASYNC110 - a number, not an event
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as pushers:
        for number in range(PUSHERS):
            pushers.create_task(push(number))
        for _ in range(3):
            await pushed(20)
            await asyncio.to_thread(server.down)
            await asyncio.to_thread(server.up)
        await pushed(20)
        over.set()
    assert not [label for label in answered if await metadata.tagged_manifest(REPO, tag(label)) is None]


async def test_look_ups_at_the_same_time_share_queries_and_have_their_own_answers(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: list[int] = []
    images = [factories.image() for _ in range(200)]
    async with PostgresEngine.opened(PostgresSettings(url), SCHEMA) as engine:
        metadata = SqlMetadata(engine, ManifestCache(), history=1)
        await asyncio.gather(*(metadata.publish(publication(REPO, each)) for each in images))
        fetch = engine._look_ups._fetch  # noqa: SLF001 - what is sent is seen nowhere else

        async def counted(statement: str, values: Sequence[object]) -> list[Row]:
            queries.append(len(values))
            return await fetch(statement, values)

        monkeypatch.setattr(engine._look_ups, "_fetch", counted)  # noqa: SLF001
        wanted = [*(digest(each.digest) for each in images), *(digest(factories.digest_of(b"")),) * 3]
        found, _ = await asyncio.gather(
            asyncio.gather(*(engine.read(partial(manifests.manifest, REPO, each)) for each in wanted)),
            asyncio.gather(*(engine.read(partial(tags.was_tagged, REPO, tag("none"), each)) for each in wanted)),
        )
    contents = [each.content if each else None for each in found]
    assert contents == [*(each.raw for each in images), None, None, None]
    assert len(queries) < 20


async def test_what_one_replica_wrote_the_others_see_at_once(url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        settings = PostgresSettings(url, connections=4)
        engines = [await stack.enter_async_context(PostgresEngine.opened(settings, SCHEMA)) for _ in range(3)]

        async def replica(number: int) -> None:
            for step in range(30):
                label = f"v{number}-{step}"
                image = factories.image()
                writer = engines[number % 3]
                await writer.write(partial(manifests.publish, publication(REPO, image, label), 1, 0.0))
                for reader in engines:
                    found = await reader.read(partial(manifests.tagged_manifest, REPO, tag(label)))
                    assert found is not None
                    assert found.content == image.raw

        await asyncio.gather(*(replica(number) for number in range(9)))


async def test_a_shared_query_that_fails_fails_for_those_in_it(url: str) -> None:
    def wrong() -> Transaction[None]:
        yield "SELECT digest FROM no_table WHERE digest = ?", ("a",)

    async with PostgresEngine.opened(PostgresSettings(url), SCHEMA) as engine:
        answers = await asyncio.gather(
            *(engine.read(wrong) for _ in range(5)),
            engine.read(partial(manifests.tagged_manifest, REPO, tag("v1"))),
            return_exceptions=True,
        )
        assert [type(each) for each in answers] == [*[Unavailable] * 5, type(None)]


async def refused(metadata: PostgresMetadata) -> None:
    """Raises once the server has taken the change of its settings."""
    async with asyncio.timeout(30):
        while True:
            await metadata.check()


async def accepted(metadata: PostgresMetadata) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(Unavailable):
                return await metadata.check()
