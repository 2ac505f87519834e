from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest

import factories
from factories import INLINE
from support.actors import Somebody, named, no, yes
from support.core import OTHER, REPO, Stalled, digest, names, pieces, pushing
from support.memory import MemoryBlobs
from support.metadata import EmbeddedMetadata
from trow.access.identity import Identity
from trow.lib.caches import LruCache
from trow.metadata.uploads import LocalUploads
from trow.oci.errors import (
    BlobTooLarge,
    BlobUnknown,
    BodyIncomplete,
    ChunkOutOfOrder,
    DigestMismatch,
    OciError,
    SizeInvalid,
    TooManyRequests,
    Unavailable,
    UploadBusy,
    UploadUnknown,
)
from trow.oci.names import Repository, UploadId
from trow.oci.ranges import ByteRange
from trow.registry import mounts as anywhere
from trow.registry import sessions as sessions_module
from trow.registry.ports import UploadBounds
from trow.registry.pull import Pull
from trow.registry.sessions import Chunk, SessionKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.fixtures import LocalBlobs
    from trow.oci.digest import Digest
    from trow.registry.location import BlobLocation
    from trow.registry.ports import BlobRecord
    from trow.registry.push import Push

SIZES = [0, 1, INLINE - 1, INLINE, INLINE + 1, 300_000]
EMPTY = Chunk(pieces(), None, 0)
NOBODY = named("")
ALICE = named("alice")
BOB = named("bob")


def chunk(content: bytes, at: int | None = None, *, announced: bool = True) -> Chunk:
    """All bytes in pieces of a few kilobytes; ``at`` says where they belong."""
    parts = [content[i : i + 5000] for i in range(0, len(content), 5000)]
    place = None if at is None else ByteRange(at, at + len(content))
    return Chunk(pieces(*parts), place, len(content) if announced else None)


async def read(pull: Pull, repository: Repository, name: Digest) -> bytes:
    found = await pull.blob(repository, name)
    content = await pull.content(found)
    assert len(content) == found.size
    return content


async def absent(pull: Pull, repository: Repository, name: Digest) -> bool:
    try:
        await pull.blob(repository, name)
    except BlobUnknown:
        return True
    return False


def left(blobs: LocalBlobs) -> list[str]:
    """Names of what is staged: neither a blob nor forgotten."""
    if isinstance(blobs, MemoryBlobs):
        return list(blobs._staged)  # noqa: SLF001 - there is no other way to look
    return [path.name for path in blobs._uploads.iterdir()]  # noqa: SLF001


# In one request


@pytest.mark.parametrize("size", SIZES)
async def test_whole_blob(push: Push, pull: Pull, blobs: LocalBlobs, size: int) -> None:
    for algorithm in ("sha256", "sha512"):
        blob = factories.blob(size)
        name = digest(factories.digest_of(blob.content, algorithm))
        await push.monolithic(REPO, NOBODY, chunk(blob.content), name)
        assert await read(pull, REPO, name) == blob.content
        assert await absent(pull, OTHER, name)
    assert left(blobs) == []


@pytest.mark.parametrize("size", SIZES)
async def test_whole_blob_with_another_digest_is_not_kept(push: Push, pull: Pull, blobs: LocalBlobs, size: int) -> None:
    claimed, sent = factories.blob(100), factories.blob(size)
    with pytest.raises(DigestMismatch) as caught:
        await push.monolithic(REPO, NOBODY, chunk(sent.content), digest(claimed.digest))
    assert caught.value.detail == {"claimed": claimed.digest, "actual": sent.digest}
    assert await absent(pull, REPO, digest(claimed.digest))
    assert await absent(pull, REPO, digest(sent.digest))
    assert left(blobs) == []


@pytest.mark.parametrize("announced", [True, False])
async def test_blob_above_the_limit(push: Push, blobs: LocalBlobs, announced: bool) -> None:  # noqa: FBT001
    largest, larger = factories.blob(1_000_000), factories.blob(1_000_001)
    await push.monolithic(REPO, NOBODY, chunk(largest.content, announced=announced), digest(largest.digest))
    with pytest.raises(BlobTooLarge, match=r"1000000 bytes; make it smaller, or raise registry.max_blob_size"):
        await push.monolithic(REPO, NOBODY, chunk(larger.content, announced=announced), digest(larger.digest))
    assert left(blobs) == []


@pytest.mark.parametrize("size", [10, 300_000])
async def test_whole_blob_whose_sender_vanishes(push: Push, blobs: LocalBlobs, size: int) -> None:
    blob = factories.blob(size)
    with pytest.raises(BodyIncomplete):
        await push.monolithic(
            REPO, NOBODY, Chunk(pieces(blob.content, then=BodyIncomplete("gone"))), digest(blob.digest)
        )
    assert left(blobs) == []


@pytest.mark.parametrize("size", [10, 300_000])
async def test_whole_blob_whose_request_is_cancelled(push: Push, blobs: LocalBlobs, size: int) -> None:
    body = Stalled(factories.blob(size).content)
    request = asyncio.create_task(push.monolithic(REPO, NOBODY, Chunk(body), digest(factories.blob().digest)))
    await body.stopped.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert left(blobs) == []


async def test_same_blob_from_many_at_once(push: Push, pull: Pull, blobs: LocalBlobs) -> None:
    blob = factories.blob(200_000)
    repositories = [Repository.parse(f"r{number}") for number in range(16)]
    await asyncio.gather(
        *(push.monolithic(each, NOBODY, chunk(blob.content), digest(blob.digest)) for each in repositories)
    )
    for each in repositories:
        assert await read(pull, each, digest(blob.digest)) == blob.content
    assert left(blobs) == []


# In a session


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("announced", ["sha256", "sha512"])
@pytest.mark.parametrize("sizes", [[], [0], [1], [10, 10, 10], [INLINE, 1], [1, INLINE], [300_000, 5, 300_000]])
async def test_chunks_become_a_blob(
    push: Push, pull: Pull, blobs: LocalBlobs, sizes: list[int], announced: str, algorithm: str
) -> None:
    upload = await push.sessions.begin(REPO, ALICE, announced)
    content = b""
    for size in sizes:
        more = factories.blob(size).content
        content += more
        assert await push.append(upload, chunk(more)) == len(content)
        assert await push.status(upload) == len(content)
    name = digest(factories.digest_of(content, algorithm))
    assert await push.finish(upload, EMPTY, name) == len(content)
    assert await read(pull, REPO, name) == content
    assert left(blobs) == []


async def test_last_chunk_may_come_with_the_digest(push: Push, pull: Pull) -> None:
    blob = factories.blob(100_000)
    upload = await push.sessions.begin(REPO, NOBODY)
    await push.append(upload, chunk(blob.content[:60_000], 0))
    await push.finish(upload, chunk(blob.content[60_000:], 60_000), digest(blob.digest))
    assert await read(pull, REPO, digest(blob.digest)) == blob.content


async def test_chunk_out_of_order_adds_nothing(push: Push, pull: Pull) -> None:
    blob = factories.blob(100)
    upload = await push.sessions.begin(REPO, NOBODY)
    await push.append(upload, chunk(blob.content[:40], 0))
    for at in (0, 39, 41):
        with pytest.raises(ChunkOutOfOrder) as caught:
            await push.append(upload, chunk(blob.content[40:], at))
        assert caught.value.offset == 40
        with pytest.raises(ChunkOutOfOrder):
            await push.finish(upload, chunk(blob.content[40:], at), digest(blob.digest))
    await push.finish(upload, chunk(blob.content[40:], 40), digest(blob.digest))
    assert await read(pull, REPO, digest(blob.digest)) == blob.content


@pytest.mark.parametrize("length", [9, 11])
async def test_chunk_is_as_long_as_its_place(push: Push, length: int) -> None:
    upload = await push.sessions.begin(REPO, NOBODY)
    with pytest.raises(SizeInvalid):
        await push.append(upload, Chunk(pieces(b"x" * length), ByteRange(0, 10), length))
    assert await push.status(upload) == 0


async def test_chunk_of_unannounced_length_is_not_longer_than_its_place(push: Push) -> None:
    upload = await push.sessions.begin(REPO, NOBODY)
    with pytest.raises(OciError):
        await push.append(upload, Chunk(pieces(b"x" * 9, b"x" * 2), ByteRange(0, 10), None))
    assert await push.status(upload) <= 10


async def test_session_above_the_limit(push: Push) -> None:
    upload = await push.sessions.begin(REPO, NOBODY)
    await push.append(upload, chunk(b"x" * 999_999))
    for announced in (True, False):
        with pytest.raises(BlobTooLarge):
            await push.append(upload, chunk(b"xx", announced=announced))
    assert await push.status(upload) <= 1_000_000


@pytest.mark.parametrize("before", [0, 10, INLINE, 300_000])
@pytest.mark.parametrize("size", [0, 10, 300_000])
async def test_wrong_digest_leaves_the_session_as_it_was(
    push: Push, pull: Pull, blobs: LocalBlobs, before: int, size: int
) -> None:
    """distribution-spec does not say; regctl and others repeat the request at the same location."""
    blob, wrong = factories.blob(before + size), factories.blob(size)
    upload = await push.sessions.begin(REPO, NOBODY)
    await push.append(upload, chunk(blob.content[:before]))
    for _ in range(2):
        with pytest.raises(DigestMismatch):
            await push.finish(upload, chunk(wrong.content), digest(factories.blob().digest))
        assert await push.status(upload) == before
    assert await push.finish(upload, chunk(blob.content[before:]), digest(blob.digest)) == blob.size
    assert await read(pull, REPO, digest(blob.digest)) == blob.content
    assert left(blobs) == []


@pytest.mark.parametrize("size", [10, 300_000])
async def test_whoever_named_the_wrong_digest_may_name_the_right_one(push: Push, pull: Pull, size: int) -> None:
    blob = factories.blob(size)
    upload = await push.sessions.begin(REPO, NOBODY)
    await push.append(upload, chunk(blob.content))
    with pytest.raises(DigestMismatch):
        await push.finish(upload, EMPTY, digest(factories.blob().digest))
    await push.finish(upload, EMPTY, digest(blob.digest))
    assert await read(pull, REPO, digest(blob.digest)) == blob.content


@pytest.mark.parametrize("before", [0, 10, 300_000])
@pytest.mark.parametrize("size", [20, 400_000])
@pytest.mark.parametrize("times", [1, 3])
async def test_request_that_was_cut_off_can_be_repeated_whole(
    push: Push, pull: Pull, before: int, size: int, times: int
) -> None:
    blob = factories.blob(before + size)
    head, rest = blob.content[:before], blob.content[before:]
    upload = await push.sessions.begin(REPO, NOBODY)
    await push.append(upload, chunk(head))
    for number in range(times):
        arrived = rest[: size // 2 + number]
        with pytest.raises(BodyIncomplete):
            await push.finish(
                upload, Chunk(pieces(arrived, then=BodyIncomplete("gone")), None, size), digest(blob.digest)
            )
    assert await push.finish(upload, chunk(rest), digest(blob.digest)) == blob.size
    assert await read(pull, REPO, digest(blob.digest)) == blob.content


@pytest.mark.parametrize("size", [20, 400_000])
async def test_chunk_that_was_cut_off_can_be_repeated_whole(push: Push, pull: Pull, size: int) -> None:
    blob = factories.blob(size)
    upload = await push.sessions.begin(REPO, NOBODY)
    with pytest.raises(BodyIncomplete):
        await push.append(upload, Chunk(pieces(blob.content[:7], then=BodyIncomplete("gone")), None, size))
    assert await push.append(upload, chunk(blob.content)) == size
    await push.finish(upload, EMPTY, digest(blob.digest))
    assert await read(pull, REPO, digest(blob.digest)) == blob.content


@pytest.mark.parametrize("size", [20, 400_000])
async def test_who_asks_how_much_is_there_goes_on_with_chunks_of_the_same_length(
    push: Push, pull: Pull, size: int
) -> None:
    blob = factories.blob(size + size // 2)
    upload = await push.sessions.begin(REPO, NOBODY)
    half = size // 2
    with pytest.raises(BodyIncomplete):
        await push.append(upload, Chunk(pieces(blob.content[:half], then=BodyIncomplete("gone")), None, size))
    assert await push.status(upload) == half
    assert await push.append(upload, chunk(blob.content[half : half + size])) == half + size
    await push.finish(upload, EMPTY, digest(blob.digest))
    assert await read(pull, REPO, digest(blob.digest)) == blob.content


@pytest.mark.parametrize("how", ["longer than its place", "too large"])
async def test_bytes_of_a_refused_request_are_forgotten(push: Push, how: str) -> None:
    upload = await push.sessions.begin(REPO, NOBODY)
    await push.append(upload, chunk(b"x" * 100))
    if how == "too large":
        with pytest.raises(BlobTooLarge):
            await push.append(upload, chunk(b"y" * 1_000_000, announced=False))
    else:
        with pytest.raises(SizeInvalid):
            await push.append(upload, Chunk(pieces(b"y" * 9, b"y" * 9), ByteRange(100, 110)))
    assert await push.status(upload) == 100


async def test_finished_session_is_unknown_but_for_its_own_answer(push: Push, pull: Pull) -> None:
    """Whoever lost the answer asks again, with the body or without; whoever wants something else is too late."""
    blob, other = factories.blob(100_000), factories.blob()
    upload = await push.sessions.begin(REPO, ALICE)
    await push.finish(upload, chunk(blob.content), digest(blob.digest))
    for again in (EMPTY, chunk(blob.content)):
        assert await push.finish(upload, again, digest(blob.digest)) == blob.size
    for attempt in (
        push.finish(upload, EMPTY, digest(other.digest)),
        push.finish(SessionKey(REPO, "bob", upload.upload), EMPTY, digest(blob.digest)),
        push.finish(SessionKey(OTHER, "alice", upload.upload), EMPTY, digest(blob.digest)),
        push.append(upload, chunk(b"x")),
        push.status(upload),
        push.cancel(upload),
    ):
        with pytest.raises(UploadUnknown):
            await attempt
    assert await read(pull, REPO, digest(blob.digest)) == blob.content


async def test_answer_is_not_given_again_for_a_blob_that_was_deleted(push: Push, metadata: EmbeddedMetadata) -> None:
    blob = factories.blob()
    upload = await push.sessions.begin(REPO, NOBODY)
    await push.finish(upload, chunk(blob.content), digest(blob.digest))
    await metadata.unlink_blob(REPO, digest(blob.digest))
    with pytest.raises(UploadUnknown):
        await push.finish(upload, EMPTY, digest(blob.digest))


async def test_answers_that_can_be_given_again_are_few(push: Push) -> None:
    push._finished = LruCache(3)  # noqa: SLF001 - instead of a thousand
    blob = factories.blob()
    uploads = []
    for _ in range(5):
        uploads.append(await push.sessions.begin(REPO, NOBODY))
        await push.finish(uploads[-1], chunk(blob.content), digest(blob.digest))
    for upload in uploads[:2]:
        with pytest.raises(UploadUnknown):
            await push.finish(upload, EMPTY, digest(blob.digest))
    for upload in uploads[2:]:
        await push.finish(upload, EMPTY, digest(blob.digest))


@pytest.mark.parametrize(
    ("repository", "subject", "known"),
    [(OTHER, "alice", True), (REPO, "bob", True), (REPO, "", True), (REPO, "alice", False)],
)
async def test_session_is_known_to_those_who_opened_it(
    push: Push,
    repository: Repository,
    subject: str,
    known: bool,  # noqa: FBT001
) -> None:
    """CVE-2026-32589: whoever learns a session's name cannot take it over."""
    blob = factories.blob()
    mine = await push.sessions.begin(REPO, ALICE)
    upload = SessionKey(repository, subject, mine.upload if known else UploadId.new())
    for attempt in (
        push.status(upload),
        push.append(upload, chunk(blob.content)),
        push.finish(upload, chunk(blob.content), digest(blob.digest)),
        push.cancel(upload),
    ):
        with pytest.raises(UploadUnknown):
            await attempt
    assert await push.status(mine) == 0


@pytest.mark.parametrize("size", [0, 10, 300_000])
async def test_cancelled_session_leaves_nothing(push: Push, blobs: LocalBlobs, size: int) -> None:
    upload = await push.sessions.begin(REPO, NOBODY)
    await push.append(upload, chunk(b"x" * size))
    await push.cancel(upload)
    with pytest.raises(UploadUnknown):
        await push.append(upload, chunk(b"x"))
    assert left(blobs) == []


@pytest.mark.parametrize("size", [10, 100_000])
async def test_broken_connection_keeps_what_arrived(push: Push, pull: Pull, size: int) -> None:
    blob = factories.blob(2 * size)
    upload = await push.sessions.begin(REPO, NOBODY)
    with pytest.raises(BodyIncomplete):
        await push.append(upload, Chunk(pieces(blob.content[:size], then=BodyIncomplete("gone")), None, 2 * size))
    assert await push.status(upload) == size
    await push.finish(upload, chunk(blob.content[size:], size), digest(blob.digest))
    assert await read(pull, REPO, digest(blob.digest)) == blob.content


async def test_too_many_sessions(push: Push) -> None:
    uploads = [await push.sessions.begin(REPO, NOBODY) for _ in range(10)]
    with pytest.raises(TooManyRequests) as caught:
        await push.sessions.begin(REPO, NOBODY)
    assert caught.value.retry_after > 0
    blob = factories.blob()
    await push.finish(uploads[0], chunk(blob.content), digest(blob.digest))
    await push.sessions.begin(REPO, NOBODY)
    await push.cancel(uploads[1])
    await push.sessions.begin(REPO, NOBODY)
    await push.monolithic(REPO, NOBODY, chunk(blob.content), digest(blob.digest))  # opens none


# Two requests for one session


async def test_second_request_waits_for_the_first(push: Push) -> None:
    upload = await push.sessions.begin(REPO, NOBODY)
    body = Stalled(b"a" * 10, b"b" * 10)
    first = asyncio.create_task(push.append(upload, Chunk(body)))
    await body.stopped.wait()
    second = asyncio.create_task(push.append(upload, chunk(b"c" * 10)))
    await asyncio.sleep(0)
    assert not second.done()
    body.go_on.set()
    assert [await first, await second] == [20, 30]


async def test_session_that_stays_busy(push: Push, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "_BUSY_SECONDS", 0.01)
    upload = await push.sessions.begin(REPO, NOBODY)
    body = Stalled(b"a" * 10)
    first = asyncio.create_task(push.append(upload, Chunk(body)))
    await body.stopped.wait()
    for attempt in (
        push.append(upload, chunk(b"c")),
        push.status(upload),
        push.cancel(upload),
    ):
        with pytest.raises(UploadBusy):
            await attempt
    body.go_on.set()
    assert await first == 10


@pytest.mark.parametrize("size", [10, 300_000])
@pytest.mark.parametrize("end", ["finish", "cancel"])
async def test_session_that_ended_while_a_request_waited_for_it(
    push: Push, pull: Pull, blobs: LocalBlobs, end: str, size: int
) -> None:
    blob = factories.blob(size)
    upload = await push.sessions.begin(REPO, NOBODY)
    await push.append(upload, chunk(blob.content))
    body = Stalled(b"")
    holding = asyncio.create_task(push.append(upload, Chunk(body)))
    await body.stopped.wait()
    ending = asyncio.create_task(
        push.cancel(upload) if end == "cancel" else push.finish(upload, EMPTY, digest(blob.digest))
    )
    late = asyncio.create_task(push.append(upload, chunk(b"late")))
    await asyncio.sleep(0)
    body.go_on.set()
    await asyncio.gather(holding, ending, return_exceptions=True)
    with pytest.raises(UploadUnknown):
        await late
    assert left(blobs) == []
    if end == "finish":
        assert await read(pull, REPO, digest(blob.digest)) == blob.content


# Time


async def test_idle_sessions_expire(push: Push, blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(push.sessions, "_clock", lambda: now)
    idle, used = await push.sessions.begin(REPO, NOBODY), await push.sessions.begin(REPO, NOBODY)
    await push.append(idle, chunk(b"x" * 300_000))
    await push.append(used, chunk(b"x"))
    now += 3000
    assert await push.sessions.expire() == 0
    await push.append(used, chunk(b"x"))
    now += 1000
    assert await push.sessions.expire() == 1
    with pytest.raises(UploadUnknown):
        await push.status(idle)
    assert await push.status(used) == 2
    assert str(idle) not in left(blobs)


@pytest.mark.parametrize("hours", [1, -1, 24 * 365])
async def test_no_session_ends_because_a_clock_is_set(push: Push, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    used = await push.sessions.begin(REPO, NOBODY)
    await push.append(used, Chunk(pieces(b"ab"), length=2))
    at = time.time() + hours * 3600
    monkeypatch.setattr("time.time", lambda: at)
    empty = await push.sessions.begin(REPO, NOBODY)
    assert await push.sessions.expire() == 0
    assert await push.status(used) == 2
    assert await push.status(empty) == 0


@pytest.mark.parametrize("size", [10, 300_000])
async def test_session_does_not_expire_while_bytes_arrive(
    push: Push, pull: Pull, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A slow upload takes longer than an idle one may: what was acknowledged has to be there."""
    now = 1_000_000.0
    monkeypatch.setattr(push.sessions, "_clock", lambda: now)
    blob = factories.blob(2 * size)
    upload = await push.sessions.begin(REPO, NOBODY)
    body = Stalled(blob.content[:size], blob.content[size:])
    request = asyncio.create_task(push.finish(upload, Chunk(body, None, 2 * size), digest(blob.digest)))
    await body.stopped.wait()
    now += 4000
    await push.sessions.expire()
    body.go_on.set()
    await request
    assert await read(pull, REPO, digest(blob.digest)) == blob.content


async def test_session_without_bytes_expires_in_minutes_whatever_is_asked(
    push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status and empty chunks cost a client nothing, and would keep a session forever."""
    now = 1_000_000.0
    monkeypatch.setattr(push.sessions, "_clock", lambda: now)
    empty, used = await push.sessions.begin(REPO, NOBODY), await push.sessions.begin(REPO, NOBODY)
    await push.append(used, chunk(b"x"))
    for _ in range(2):
        now += 149
        for upload in (empty, used):
            await push.status(upload)
            await push.append(upload, EMPTY)
            with pytest.raises(ChunkOutOfOrder):
                await push.append(upload, chunk(b"y", 7))
        assert await push.sessions.expire() == 0
    now += 3
    assert await push.sessions.expire() == 1
    with pytest.raises(UploadUnknown):
        await push.status(empty)
    assert await push.status(used) == 1
    now += 3301
    assert await push.sessions.expire() == 1


@pytest.mark.parametrize("how", ["a wrong digest", "a broken connection"])
async def test_session_that_was_tried_is_there_for_the_next_try(
    push: Push, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(push.sessions, "_clock", lambda: now)
    upload = await push.sessions.begin(REPO, NOBODY)
    now += 299
    body = Chunk(pieces(b"x", then=None if "digest" in how else BodyIncomplete("gone")), None, 2)
    with pytest.raises((DigestMismatch, BodyIncomplete)):
        await push.finish(upload, body, digest(factories.blob().digest))
    now += 290
    assert await push.sessions.expire() == 0


async def test_session_that_gets_bytes_does_not_end_for_another(blobs: LocalBlobs, metadata: EmbeddedMetadata) -> None:
    push = pushing(blobs, metadata, bounds=UploadBounds(10, 2, 10))
    empty, busy = await push.sessions.begin(REPO, ALICE), await push.sessions.begin(REPO, ALICE)
    body = Stalled(b"", b"x")
    request = asyncio.create_task(push.append(empty, Chunk(body)))
    await body.stopped.wait()
    third = await push.sessions.begin(REPO, ALICE)
    with pytest.raises(UploadUnknown):
        await push.status(busy)
    await push.append(third, chunk(b"x"))
    with pytest.raises(TooManyRequests):
        await push.sessions.begin(REPO, ALICE)
    await push.sessions.begin(REPO, BOB)
    body.go_on.set()
    assert await request == 1


async def test_users_without_credentials_have_a_share_for_each_source(
    blobs: LocalBlobs, metadata: EmbeddedMetadata
) -> None:
    push = pushing(blobs, metadata, bounds=UploadBounds(100, 2, 100))
    here = [await push.sessions.begin(REPO, named("")) for _ in range(5)]
    there = await push.sessions.begin(REPO, named("", "192.0.2.2"))
    for upload in here[:3]:
        with pytest.raises(UploadUnknown):
            await push.status(upload)
    for upload in [*here[3:], there]:
        assert await push.status(upload) == 0


async def test_shares_are_known_after_a_restart(blobs: LocalBlobs, tmp_path: Path) -> None:
    bounds = UploadBounds(100, 2, 100)
    with contextlib.closing(EmbeddedMetadata(tmp_path / "shares.db")) as before:
        push = pushing(blobs, before, bounds=bounds)
        uploads = [await push.sessions.begin(REPO, ALICE) for _ in range(2)]
        await push.append(uploads[1], chunk(b"x"))
        await push.sessions.close()
        await before.uploads.close()
    with contextlib.closing(EmbeddedMetadata(tmp_path / "shares.db")) as after:
        after.uploads = await LocalUploads.opened(after.engine)
        push = pushing(blobs, after, bounds=bounds)
        await push.sessions.begin(REPO, ALICE)
        with pytest.raises(UploadUnknown):
            await push.status(uploads[0])
        assert await push.status(uploads[1]) == 1


async def test_session_expires_so_long_after_its_last_byte(push: Push, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr(push.sessions, "_clock", lambda: now)
    upload = await push.sessions.begin(REPO, NOBODY)
    body = Stalled(b"x")
    request = asyncio.create_task(push.append(upload, Chunk(body)))
    await body.stopped.wait()
    now += 3000
    body.go_on.set()
    await request
    now += 3000
    assert await push.sessions.expire() == 0
    now += 1000
    assert await push.sessions.expire() == 1


async def test_expired_session_of_another_run_leaves_nothing(
    blobs: LocalBlobs, metadata: EmbeddedMetadata, push: Push
) -> None:
    upload = await push.sessions.begin(REPO, NOBODY)
    await push.append(upload, chunk(b"x" * 300_000))
    await push.sessions.close()
    again = pushing(blobs, metadata, expiry=-1)
    assert await again.sessions.expire() == 1
    assert left(blobs) == []


# Sessions that are put aside


@pytest.mark.parametrize("size", [10, INLINE, 100_000])
async def test_session_goes_on_after_a_restart(
    blobs: LocalBlobs, metadata: EmbeddedMetadata, push: Push, pull: Pull, size: int
) -> None:
    blob = factories.blob(2 * size)
    upload = await push.sessions.begin(REPO, ALICE)
    await push.append(upload, chunk(blob.content[:size]))
    await push.sessions.close()
    again = pushing(blobs, metadata, expiry=3600)
    assert await again.status(upload) == size
    await again.finish(upload, chunk(blob.content[size:], size), digest(blob.digest))
    assert await read(pull, REPO, digest(blob.digest)) == blob.content
    assert left(blobs) == []


@pytest.mark.parametrize("before", [0, 300_000])
@pytest.mark.parametrize("size", [20, 400_000])
async def test_request_that_was_cut_off_by_a_restart_can_be_repeated_whole(
    blobs: LocalBlobs, metadata: EmbeddedMetadata, push: Push, pull: Pull, before: int, size: int
) -> None:
    blob = factories.blob(before + size)
    upload = await push.sessions.begin(REPO, NOBODY)
    await push.append(upload, chunk(blob.content[:before]))
    part = pieces(blob.content[before : before + size // 2], then=BodyIncomplete("gone"))
    with pytest.raises(BodyIncomplete):
        await push.finish(upload, Chunk(part, None, size), digest(blob.digest))
    await push.sessions.close()
    again = pushing(blobs, metadata, expiry=3600)
    await again.finish(upload, chunk(blob.content[before:]), digest(blob.digest))
    assert await read(pull, REPO, digest(blob.digest)) == blob.content


async def test_more_sessions_than_may_stay_open(push: Push, pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push.sessions, "_kept_open", 2)
    contents = [factories.blob(size) for size in (5, 100, 70_000, 150_000, 300_000)]
    uploads = [await push.sessions.begin(REPO, NOBODY) for _ in contents]
    for part in range(5):
        for blob, upload in zip(contents, uploads, strict=True):
            step = blob.size // 5
            await push.append(upload, chunk(blob.content[part * step : (part + 1) * step]))
            assert len(push.sessions._live) <= 2  # noqa: SLF001 - the bound is the point
    for blob, upload in zip(contents, uploads, strict=True):
        await push.finish(upload, EMPTY, digest(blob.digest))
        assert await read(pull, REPO, digest(blob.digest)) == blob.content


async def test_session_in_use_is_not_put_aside(push: Push, pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push.sessions, "_kept_open", 1)
    blob = factories.blob(200_000)
    upload = await push.sessions.begin(REPO, NOBODY)
    body = Stalled(blob.content[:100_000], blob.content[100_000:])
    request = asyncio.create_task(push.finish(upload, Chunk(body), digest(blob.digest)))
    await body.stopped.wait()
    others = [await push.sessions.begin(REPO, NOBODY) for _ in range(3)]
    assert [await push.append(other, chunk(b"x")) for other in others] == [1, 1, 1]
    second = asyncio.create_task(push.append(upload, chunk(b"x")))
    body.go_on.set()
    await request
    with pytest.raises(UploadUnknown):  # it waited for the first one, and that was the last
        await second
    assert await read(pull, REPO, digest(blob.digest)) == blob.content


# When the database does not work


class Failing(EmbeddedMetadata):
    """A database that fails once, when it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked = asyncio.Event()
        self.fail = asyncio.Event()

    async def link_blob(self, repository: Repository, digest: Digest, record: BlobRecord) -> None:
        if not self.asked.is_set():
            self.asked.set()
            await self.fail.wait()
            raise Unavailable("not now")
        await super().link_blob(repository, digest, record)


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Failing]:
    with contextlib.closing(Failing(tmp_path / "failing.db")) as metadata:
        yield metadata


@pytest.mark.parametrize("size", [10, 300_000])
@pytest.mark.parametrize("whole", [True, False], ids=["with nothing", "with all of it"])
async def test_finish_can_be_tried_again(
    blobs: LocalBlobs,
    failing: Failing,
    size: int,
    whole: bool,  # noqa: FBT001
) -> None:
    push = pushing(blobs, failing, expiry=3600)
    failing.fail.set()
    blob = factories.blob(size)
    upload = await push.sessions.begin(REPO, NOBODY)
    if whole:
        await push.append(upload, chunk(blob.content))
    last = EMPTY if whole else chunk(blob.content)
    with pytest.raises(Unavailable):
        await push.finish(upload, last, digest(blob.digest))
    assert [each async for each in names(blobs, 9)] == []  # nothing stays that nobody knows of
    if whole:
        assert await push.status(upload) == size
    await push.finish(upload, EMPTY if whole else chunk(blob.content), digest(blob.digest))
    assert await read(Pull(blobs, failing), REPO, digest(blob.digest)) == blob.content
    assert left(blobs) == []


async def test_whole_blob_that_could_not_be_linked_leaves_nothing(blobs: LocalBlobs, failing: Failing) -> None:
    push = pushing(blobs, failing, expiry=3600)
    failing.fail.set()
    blob = factories.blob(300_000)
    with pytest.raises(Unavailable):
        await push.monolithic(REPO, NOBODY, chunk(blob.content), digest(blob.digest))
    assert [each async for each in names(blobs, 9)] == []
    assert left(blobs) == []


async def test_failure_takes_nothing_from_who_pushes_the_same_blob(blobs: LocalBlobs, failing: Failing) -> None:
    push = pushing(blobs, failing, expiry=3600)
    blob = factories.blob(300_000)
    unlucky = asyncio.create_task(push.monolithic(REPO, NOBODY, chunk(blob.content), digest(blob.digest)))
    await failing.asked.wait()
    await push.monolithic(OTHER, NOBODY, chunk(blob.content), digest(blob.digest))
    failing.fail.set()
    with pytest.raises(Unavailable):
        await unlucky
    assert await read(Pull(blobs, failing), OTHER, digest(blob.digest)) == blob.content
    assert left(blobs) == []


async def test_session_that_could_not_be_linked_cannot_change_the_blob_of_others(
    blobs: LocalBlobs, failing: Failing
) -> None:
    push = pushing(blobs, failing, expiry=3600)
    blob = factories.blob(300_000)
    upload = await push.sessions.begin(REPO, NOBODY)
    unlucky = asyncio.create_task(push.finish(upload, chunk(blob.content), digest(blob.digest)))
    await failing.asked.wait()
    await push.monolithic(OTHER, NOBODY, chunk(blob.content), digest(blob.digest))
    failing.fail.set()
    with pytest.raises(Unavailable):
        await unlucky
    assert await push.append(upload, chunk(b"more")) == blob.size + 4
    await push.cancel(upload)
    assert await read(Pull(blobs, failing), OTHER, digest(blob.digest)) == blob.content


async def test_blob_of_which_nobody_can_tell_whether_others_have_it_is_not_written_to(
    blobs: LocalBlobs, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(*_: object) -> bool:
        raise Unavailable("not now")

    push, blob = pushing(blobs, failing, expiry=3600), factories.blob(300_000)
    upload = await push.sessions.begin(REPO, NOBODY)
    unlucky = asyncio.create_task(push.finish(upload, chunk(blob.content), digest(blob.digest)))
    await failing.asked.wait()
    failing.fail.set()
    monkeypatch.setattr(failing, "knows_location", unknown)
    with pytest.raises(Unavailable):
        await unlucky
    with pytest.raises(UploadUnknown):
        await push.append(upload, chunk(b"more"))
    assert len([each async for each in names(blobs, 9)]) == 1
    await blobs.recover(knows_all, crashed=False)  # the next start
    assert len([each async for each in names(blobs, 9)]) == 1
    assert left(blobs) == []


async def knows_all(_: BlobLocation) -> bool:
    return True


# Mounts


@pytest.mark.parametrize("size", [10, 100_000])
async def test_mount(push: Push, pull: Pull, size: int) -> None:
    blob = factories.blob(size)
    name = digest(blob.digest)
    await push.monolithic(REPO, NOBODY, chunk(blob.content), name)
    assert not await push.mount(OTHER, name, Repository.parse("library/none"), Somebody())
    assert not await push.mount(OTHER, name, REPO, Somebody(reads=no))
    assert await absent(pull, OTHER, name)
    assert await push.mount(OTHER, name, REPO, Somebody()) == REPO
    assert await read(pull, OTHER, name) == blob.content


@pytest.mark.parametrize("error", [Unavailable("no answer"), TooManyRequests("too many", retry_after=1)])
async def test_a_source_that_nobody_can_tell_about_refuses_no_push(push: Push, error: OciError) -> None:
    blob = factories.blob()
    await push.monolithic(REPO, NOBODY, chunk(blob.content), digest(blob.digest))

    async def unknown(_: Repository) -> bool:
        raise error

    assert await push.mount(OTHER, digest(blob.digest), REPO, Somebody(reads=unknown)) is None


async def test_mount_from_anywhere_is_from_where_the_client_may_read(push: Push, pull: Pull) -> None:
    blob = factories.blob()
    name = digest(blob.digest)
    target = Repository.parse("target")
    asked: list[Repository] = []

    async def other_only(candidate: Repository) -> bool:
        asked.append(candidate)
        return candidate == OTHER

    assert not await push.mount(target, name, None, Somebody())
    await push.monolithic(REPO, NOBODY, chunk(blob.content), name)
    assert not await push.mount(target, name, None, Somebody(reads=other_only))
    assert await absent(pull, target, name)
    await push.monolithic(OTHER, NOBODY, chunk(blob.content), name)
    assert await push.mount(target, name, None, Somebody(reads=other_only)) == OTHER
    assert await read(pull, target, name) == blob.content
    assert set(asked) == {REPO, OTHER}


async def test_a_search_that_finds_nothing_takes_the_same_time_whatever_there_is(
    push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else time would tell who knows a digest that others have the blob."""
    blob, target = factories.blob(), Repository.parse("target")
    loop, slept = asyncio.get_running_loop(), []
    for number in range(120):
        await push.monolithic(Repository.parse(f"private/{number}"), NOBODY, chunk(blob.content), digest(blob.digest))

    async def slowly(_: Repository) -> bool:
        slept.append(_)
        await asyncio.sleep(60)
        return True

    async def down(_: Repository) -> bool:
        raise Unavailable("no answer")

    for wanted, readable in ((factories.blob(), yes), (blob, no), (blob, slowly), (blob, down)):
        began = loop.time()
        assert await push.mount(target, digest(wanted.digest), None, Somebody(reads=readable)) is None
        assert loop.time() - began >= anywhere.SEARCH_SECONDS * 0.99
    assert len(slept) == 1


async def test_one_asker_searches_a_few_times_at_once_and_no_more(push: Push) -> None:
    blob, target = factories.blob(), Repository.parse("target")
    await push.monolithic(REPO, NOBODY, chunk(blob.content), digest(blob.digest))
    asked: list[str] = []

    async def search(asker: str) -> None:
        async def readable(_: Repository) -> bool:
            asked.append(asker)
            await asyncio.sleep(0.01)
            return False

        assert (
            await push.mount(target, digest(blob.digest), None, Somebody(identity=Identity(asker), reads=readable))
            is None
        )

    await asyncio.gather(*(search("alice") for _ in range(50)), search("bob"))
    assert (asked.count("alice"), asked.count("bob")) == (4, 1)


async def test_mount_of_a_blob_that_is_there_already(push: Push, pull: Pull) -> None:
    blob = factories.blob()
    await push.monolithic(REPO, NOBODY, chunk(blob.content), digest(blob.digest))
    assert await push.mount(REPO, digest(blob.digest), None, Somebody())
    assert await read(pull, REPO, digest(blob.digest)) == blob.content
