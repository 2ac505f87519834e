"""Upload sessions: how many may be open, which one ends for another, and what is known of them after a restart."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.core import OTHER, OWNER, REPO
from support.postgres import LateEngine, PostgresServer
from trow.metadata.store import SCHEMA
from trow.metadata.uploads import LocalUploads, SharedUploads
from trow.oci.errors import TooManyRequests
from trow.oci.names import UploadId
from trow.registry.ports import Upload, UploadBounds, Uploads
from trow.sql.postgres import PostgresSettings
from trow.sql.sqlite import SqliteEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trow.oci.names import Repository

BOUNDS: Final = UploadBounds(100, 100, 100)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    with contextlib.closing(SqliteEngine(tmp_path / "trow.db", SCHEMA)) as engine:
        yield engine


@pytest.fixture(params=["local", "shared-sqlite", "shared-postgres"])
def uploads(request: pytest.FixtureRequest) -> Iterator[Uploads]:
    if request.param == "shared-postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database() as url:
            late: Any = LateEngine(PostgresSettings(url))
            yield SharedUploads(late)
    else:
        engine = request.getfixturevalue("engine")
        yield LocalUploads(engine) if request.param == "local" else SharedUploads(engine)


def upload_at(at: float, subject: str = "alice") -> Upload:
    return Upload(UploadId.new(), REPO, subject, "sha512", at, OWNER)


async def test_upload_session(uploads: Uploads) -> None:
    upload = upload_at(5.5)
    assert await uploads.get(upload.id) is None
    assert await uploads.begin(upload, BOUNDS) is None
    assert await uploads.get(upload.id) == upload
    await uploads.touch(upload.id, 7.25, empty=False)
    touched = await uploads.get(upload.id)
    assert touched is not None
    assert (touched.used_at, touched.empty) == (7.25, False)
    assert await uploads.end(upload.id)
    assert not await uploads.end(upload.id)
    assert await uploads.get(upload.id) is None
    await uploads.touch(upload.id, 8.0, empty=False)
    assert await uploads.get(upload.id) is None


async def test_state_is_stored_by_one_of_those_who_have_read_it(uploads: Uploads) -> None:
    """Two replicas have requests of one session, for example because a client repeats one that takes long."""
    upload = upload_at(5.5)
    await uploads.begin(upload, BOUNDS)
    saved = await asyncio.gather(*(uploads.save(upload, f"by {number}") for number in range(8)))
    (won,) = [each for each in saved if each is not None]
    assert await uploads.get(upload.id) == won
    assert (won.version, won.state[:3]) == (upload.version + 1, "by ")
    assert await uploads.save(upload, "late") is None
    after = await uploads.save(won, "next")
    assert await uploads.get(upload.id) == after
    await uploads.end(upload.id)
    assert await uploads.save(upload, "too late") is None


async def opened(
    uploads: Uploads, bounds: UploadBounds, *names: str, repository: Repository = REPO
) -> dict[str, Upload]:
    """Sessions by name: the owner is the part before the colon; those that are not called empty have bytes."""
    found = {}
    for number, name in enumerate(names):
        owner, _, rest = name.partition(":")
        found[name] = Upload(UploadId.new(), repository, owner, "sha256", 1 + number / 100, owner)
        assert await uploads.begin(found[name], bounds) is None
        if "empty" not in rest:
            await uploads.touch(found[name].id, 1 + number / 100, empty=False)
    return found


async def ended_for(
    uploads: Uploads, bounds: UploadBounds, owner: str, repository: Repository = REPO
) -> UploadId | None:
    """Which session ends for a new one of this owner; afterwards that is gone, and the new one is there."""
    upload = Upload(UploadId.new(), repository, owner, "sha256", 2.0, owner)
    ended = await uploads.begin(upload, bounds)
    assert await uploads.get(upload.id) == upload
    if ended is not None:
        assert await uploads.get(ended.id) is None
        return ended.id
    return None


async def refused(uploads: Uploads, bounds: UploadBounds, owner: str, repository: Repository = REPO) -> str:
    """Why a new session of this owner is not opened, and that it is not."""
    upload = Upload(UploadId.new(), repository, owner, "sha256", 2.0, owner)
    with pytest.raises(TooManyRequests) as caught:
        await uploads.begin(upload, bounds)
    assert caught.value.retry_after > 0
    assert await uploads.get(upload.id) is None
    return caught.value.message


async def test_oldest_empty_session_of_an_owner_ends_for_the_next(uploads: Uploads) -> None:
    bounds = UploadBounds(100, 3, 100)
    open_ones = await opened(uploads, bounds, "a:1", "a:2 empty", "a:3 empty", "b:1 empty")
    assert await ended_for(uploads, bounds, "a") == open_ones["a:2 empty"].id
    assert await ended_for(uploads, bounds, "a") == open_ones["a:3 empty"].id
    assert await uploads.get(open_ones["b:1 empty"].id) is not None


async def test_owner_whose_sessions_all_have_bytes_is_over_the_limit(uploads: Uploads) -> None:
    bounds = UploadBounds(100, 3, 100)
    open_ones = await opened(uploads, bounds, "a:1", "a:2", "a:3", "b:1 empty")
    assert "limits.max_uploads_per_user" in await refused(uploads, bounds, "a")
    assert await ended_for(uploads, bounds, "b") is None
    await uploads.end(open_ones["a:2"].id)
    assert await ended_for(uploads, bounds, "a") is None


async def test_full_repository_keeps_room_for_those_who_have_little_there(uploads: Uploads) -> None:
    bounds = UploadBounds(100, 100, 4)
    open_ones = await opened(uploads, bounds, "a:1 empty", "a:2", "a:3 empty", "b:1")
    assert await ended_for(uploads, bounds, "c") == open_ones["a:1 empty"].id
    assert await ended_for(uploads, bounds, "a") == open_ones["a:3 empty"].id, "the own one"
    assert await ended_for(uploads, bounds, "a", OTHER) is None


async def test_full_repository_of_sessions_with_bytes_is_closed(uploads: Uploads) -> None:
    bounds = UploadBounds(100, 100, 3)
    await opened(uploads, bounds, "a:1", "a:2", "b:1 empty")
    assert "limits.max_uploads_per_repository" in await refused(uploads, bounds, "c")
    assert await ended_for(uploads, bounds, "c", OTHER) is None


async def test_owner_at_the_limit_in_a_full_repository_gives_way_there(uploads: Uploads) -> None:
    bounds = UploadBounds(100, 4, 2)
    there = await opened(uploads, bounds, "a:1 empty", "a:2 empty", repository=OTHER)
    here = await opened(uploads, bounds, "a:3", "a:4 empty")
    assert await ended_for(uploads, bounds, "a") == here["a:4 empty"].id
    assert await uploads.get(there["a:1 empty"].id) is not None


async def test_full_registry_keeps_room_for_those_who_have_little(uploads: Uploads) -> None:
    bounds = UploadBounds(4, 100, 100)
    open_ones = await opened(uploads, bounds, "a:1 empty", "a:2", "a:3 empty", "b:1 empty")
    assert await ended_for(uploads, bounds, "c", OTHER) == open_ones["a:1 empty"].id
    assert await ended_for(uploads, bounds, "d", OTHER) == open_ones["a:3 empty"].id
    assert "limits.max_uploads)" in await refused(uploads, bounds, "c"), "nobody has more than these"


async def test_full_registry_refuses_who_has_the_most(uploads: Uploads) -> None:
    bounds = UploadBounds(3, 100, 100)
    await opened(uploads, bounds, "a:1 empty", "a:2 empty", "b:1 empty")
    assert "limits.max_uploads)" in await refused(uploads, bounds, "a")


async def test_room_that_sessions_gave_back_is_there_again(uploads: Uploads) -> None:
    bounds = UploadBounds(3, 2, 2)
    for _ in range(5):
        open_ones = await opened(uploads, bounds, "a:1", "a:2")
        await uploads.end(open_ones["a:1"].id)
        await uploads.expire(100.0, 100.0)


async def test_empty_sessions_expire_sooner(uploads: Uploads) -> None:
    open_ones = await opened(uploads, BOUNDS, "a:1", "a:2 empty")
    assert [each.id for each in await uploads.expire(0.5, 1.5)] == [open_ones["a:2 empty"].id]
    assert [each.id for each in await uploads.expire(1.5, 0.5)] == [open_ones["a:1"].id]


async def test_sessions_expire(uploads: Uploads) -> None:
    old, touched, edge, new = (upload_at(at) for at in (10.0, 11.0, 20.0, 30.0))
    for upload in (old, touched, edge, new):
        await uploads.begin(upload, BOUNDS)
    await uploads.touch(touched.id, 31.0, empty=True)
    assert await uploads.expire(20.0, 20.0) == [old]
    assert await uploads.expire(20.0, 20.0) == []
    assert await uploads.get(old.id) is None
    assert {each.id for each in await uploads.expire(1000.0, 1000.0)} == {touched.id, edge.id, new.id}


async def test_sessions_expire_whatever_the_clock_did(uploads: Uploads) -> None:
    """A clock that was wrong for a while must not keep all later sessions open."""
    ahead, later = upload_at(5000.0), upload_at(10.0)
    for upload in (ahead, later):
        await uploads.begin(upload, BOUNDS)
    assert await uploads.expire(100.0, 100.0) == [later]
    assert await uploads.get(ahead.id) == ahead


async def test_sessions_go_on_after_a_restart(engine: SqliteEngine) -> None:
    upload = upload_at(3.5)
    before = await LocalUploads.opened(engine)
    await before.begin(upload, BOUNDS)
    for _ in range(2):
        await before.close()
        before = await LocalUploads.opened(engine)
        assert await before.get(upload.id) == upload
    await before.end(upload.id)
    await before.close()
    assert await (await LocalUploads.opened(engine)).get(upload.id) is None


async def test_sessions_end_with_a_crash(engine: SqliteEngine) -> None:
    upload = upload_at(3.5)
    await (await LocalUploads.opened(engine)).begin(upload, BOUNDS)
    assert await (await LocalUploads.opened(engine)).get(upload.id) is None
