"""What every store of blobs does."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import factories
from factories import INLINE
from support.core import OWNER, Stalled, digest, names, pieces
from support.waiting import eventually
from trow.oci.digest import ALGORITHMS
from trow.oci.errors import BlobUnknown, BodyIncomplete, Unavailable
from trow.oci.names import UploadId
from trow.registry.location import BlobLocation
from trow.registry.ports import LocalFile, Redirect, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trow.registry.ports import Blobs, Staged

MEGABYTE = 1024 * 1024
SIZES = [0, 1, INLINE, INLINE + 1, 3 * MEGABYTE]


async def stage(blobs: Blobs, *chunks: bytes, algorithm: str = "sha256") -> Staged:
    staged = await blobs.stage(UploadId.new(), algorithm, OWNER)
    await staged.write(pieces(*chunks))
    return staged


async def commit(blobs: Blobs, content: bytes, name: str | None = None) -> BlobLocation:
    """A blob, in one go."""
    staged = await stage(blobs, content)
    location = await staged.commit(digest(name or factories.digest_of(content)))
    await staged.discard()
    return location


def nowhere() -> BlobLocation:
    return BlobLocation.of(digest(factories.blob().digest), UploadId.new())


async def read(blobs: Blobs, location: BlobLocation, size: int) -> bytes | None:
    """The blob as a client gets it."""
    match await blobs.locate(location, size):
        case LocalFile(path=path, size=found):
            assert found == size
            return path.read_bytes()
        case Stream(read=reading):
            return b"".join([piece async for piece in reading(0, size)])
        case Redirect(url=url):
            assert location in url
            return b"".join([piece async for piece in blobs.read(location)])
        case content:
            return content


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# From staged bytes to a blob


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_bytes_are_a_blob_from_commit_on(blobs: Blobs, size: int, algorithm: str) -> None:
    blob = factories.blob(size)
    name = digest(factories.digest_of(blob.content, algorithm))
    staged = await stage(blobs, blob.content, algorithm=algorithm)
    assert staged.offset == size
    assert await staged.digest(algorithm) == name
    assert [each async for each in names(blobs, 9)] == []
    location = await staged.commit(name)
    assert await read(blobs, location, size) == blob.content
    await staged.discard()
    assert await read(blobs, location, size) == blob.content


async def test_blob_that_is_not_here(blobs: Blobs) -> None:
    assert await blobs.locate(nowhere(), 200) is None


@pytest.mark.parametrize("size", [10, 100_000])
async def test_blob_of_another_size_is_not_here(blobs: Blobs, size: int) -> None:
    blob = factories.blob(size)
    location = await commit(blobs, blob.content)
    for other in (0, size - 1, size + 1):
        assert await blobs.locate(location, other) is None


async def test_blobs_that_are_lost_are_told_of_many_at_a_time(blobs: Blobs) -> None:
    absent, here = [nowhere() for _ in range(60)], await commit(blobs, factories.blob(100_000).content)
    asked = [pair for each in absent for pair in ((here, 100_000), (each, 7))]
    assert set(await blobs.lost(asked)) == set(absent)
    assert set(await blobs.lost([(here, 99_999)])) == {here}
    assert set(await blobs.lost([])) == set()


async def test_a_blob_that_was_there_a_moment_ago_and_is_not_is_told_of(blobs: Blobs) -> None:
    """What is looked at again and again needs no thread, and is looked at none the less."""
    location = await commit(blobs, factories.blob(100_000).content)
    for _ in range(3):
        assert await blobs.locate(location, 100_000) is not None
    source = await blobs.locate(location, 100_000)
    if isinstance(source, LocalFile):
        source.path.unlink()
        assert await blobs.locate(location, 100_000) is None
        assert await blobs.locate(location, 100_000) is None


@pytest.mark.parametrize("size", [0, 10, 100_000])
async def test_discarded_bytes_are_gone(blobs: Blobs, size: int) -> None:
    blob = factories.blob(size)
    upload = UploadId.new()
    staged = await blobs.resume(upload, "sha256", OWNER)
    await staged.write(pieces(blob.content))
    await staged.discard()
    assert staged.offset == 0
    assert (await blobs.resume(upload, "sha256", OWNER)).offset == 0
    assert [each async for each in names(blobs, 9)] == []


@pytest.mark.parametrize("size", [0, 10, 100_000])
async def test_session_starts_empty_after_its_commit(blobs: Blobs, size: int) -> None:
    blob = factories.blob(size)
    upload = UploadId.new()
    staged = await blobs.resume(upload, "sha256", OWNER)
    await staged.write(pieces(blob.content))
    await staged.commit(digest(blob.digest))
    await staged.discard()
    assert (await blobs.resume(upload, "sha256", OWNER)).offset == 0


@pytest.mark.parametrize("size", [0, 10, INLINE])
async def test_content_of_few_bytes(blobs: Blobs, size: int) -> None:
    blob = factories.blob(size)
    staged = await stage(blobs, blob.content)
    assert await staged.content() == blob.content
    await staged.suspend()
    assert await staged.content() == blob.content


@pytest.mark.parametrize("size", [10, 100_000])
async def test_revoked_commit_leaves_the_bytes_staged(blobs: Blobs, size: int) -> None:
    blob = factories.blob(size)
    staged = await stage(blobs, blob.content)
    await staged.commit(digest(blob.digest))
    await staged.revoke()
    assert (staged.offset, await staged.digest("sha256")) == (size, blob.digest)
    location = await staged.commit(digest(blob.digest))
    await staged.discard()
    assert await read(blobs, location, size) == blob.content


@pytest.mark.parametrize("size", [10, 100_000])
async def test_revoked_commit_is_gone_with_its_session(blobs: Blobs, size: int) -> None:
    blob = factories.blob(size)
    staged = await stage(blobs, blob.content, algorithm="sha512")
    location = await staged.commit(digest(blob.sha512))
    await staged.revoke()
    await staged.discard()
    # Where bytes come before their digest is known, they go with their reservation.
    assert location.early or await blobs.locate(location, size) is None


# What is here


@pytest.mark.parametrize("size", [1, MEGABYTE, 2 * MEGABYTE + 17])
async def test_blob_is_read_whole_or_in_part(blobs: Blobs, size: int) -> None:
    blob = factories.blob(size)
    location = await commit(blobs, blob.content)
    for start, end in ((0, None), (0, size), (size // 2, None), (size // 3, size - size // 3), (size, size)):
        found = [piece async for piece in blobs.read(location, start, end)]
        assert b"".join(found) == blob.content[start:end]
        assert all(0 < len(piece) <= MEGABYTE for piece in found)


async def test_reader_that_has_enough_keeps_nothing_open(blobs: Blobs) -> None:
    blob = factories.blob(3 * MEGABYTE)
    location = await commit(blobs, blob.content)
    before = open_files()
    async with contextlib.aclosing(blobs.read(location)) as reading:
        first = await anext(reading)
        assert blob.content.startswith(first)
        assert 0 < len(first) <= MEGABYTE
    await eventually(lambda: open_files() <= before)  # a connection ends a moment later


async def test_blob_that_is_not_here_cannot_be_read(blobs: Blobs) -> None:
    with pytest.raises(BlobUnknown):
        await anext(blobs.read(nowhere()))


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_names_page_by_page(blobs: Blobs, limit: int) -> None:
    assert [each async for each in names(blobs, limit)] == []
    made = [factories.blob(100_000) for _ in range(6)]
    wanted = {await commit(blobs, each.content, each.sha512 if at % 2 else each.digest) for at, each in enumerate(made)}
    found = [each.location async for each in names(blobs, limit)]
    assert len(found) == len(wanted) == 6
    assert set(found) == wanted


async def test_deleted_blob_is_gone(blobs: Blobs) -> None:
    blob, other = factories.blob(100_000), factories.blob(100_000)
    gone, stays = [await commit(blobs, each.content) for each in (blob, other)]
    assert await blobs.locate(gone, blob.size) is not None
    assert await blobs.delete(gone)
    assert not await blobs.delete(gone)
    assert await blobs.locate(gone, blob.size) is None
    assert [each.location async for each in names(blobs, 9)] == [stays]
    again = await commit(blobs, blob.content)
    assert await read(blobs, again, blob.size) == blob.content


async def test_no_location_is_used_twice(blobs: Blobs) -> None:
    """Or what is to be removed could be what somebody has linked meanwhile."""
    blob = factories.blob(100_000)
    first = await commit(blobs, blob.content)
    second = await commit(blobs, blob.content)
    assert await blobs.delete(first)
    third = await commit(blobs, blob.content)
    assert len({first, second, third}) == 3
    assert await read(blobs, second, blob.size) == await read(blobs, third, blob.size) == blob.content


async def test_blob_in_quarantine_is_not_here_and_comes_back_elsewhere(blobs: Blobs) -> None:
    blob = factories.blob(100_000)
    location = await commit(blobs, blob.content)
    await blobs.quarantine(digest(blob.digest), location)
    assert await blobs.locate(location, blob.size) is None
    assert [each async for each in names(blobs, 9)] == []
    with pytest.raises(Unavailable):
        await blobs.quarantine(digest(blob.digest), location)
    assert await read(blobs, await commit(blobs, blob.content), blob.size) == blob.content


async def test_damaged_content_of_the_metadata_is_no_blob_in_quarantine(blobs: Blobs) -> None:
    blob = factories.blob(10)
    await blobs.quarantine(digest(blob.digest), blob.content)
    assert [each async for each in names(blobs, 9)] == []


async def test_store_that_works_is_ready(blobs: Blobs) -> None:
    await blobs.check()


@pytest.mark.parametrize("crashed", [True, False])
async def test_recovery_keeps_blobs_and_ends_sessions_after_a_crash_alone(blobs: Blobs, *, crashed: bool) -> None:
    blob, upload = factories.blob(100_000), UploadId.new()
    staged = await blobs.stage(upload, "sha256", OWNER)
    await staged.write(pieces(blob.content))
    await staged.suspend()
    done = await stage(blobs, blob.content)
    location = await done.commit(digest(blob.digest))
    await done.discard()

    async def known(_: BlobLocation) -> bool:
        return True

    assert await blobs.recover(known, crashed=crashed) == (1 if crashed else 0)
    assert (await blobs.resume(upload, "sha256", OWNER)).offset == (0 if crashed else blob.size)
    assert await read(blobs, location, blob.size) == blob.content


# One blob, many sessions


async def test_commit_that_is_taken_back_leaves_the_blob_of_another_session(blobs: Blobs) -> None:
    blob = factories.blob(100_000)
    first, second = await stage(blobs, blob.content), await stage(blobs, blob.content)
    _, location = [await each.commit(digest(blob.digest)) for each in (first, second)]
    await first.revoke()
    assert await read(blobs, location, blob.size) == blob.content
    await second.discard()
    again = await first.commit(digest(blob.digest))
    assert await read(blobs, again, blob.size) == await read(blobs, location, blob.size) == blob.content
    await first.discard()


@pytest.mark.parametrize("size", [10, 500_000])
async def test_same_blob_from_many_sessions_at_once(blobs: Blobs, size: int) -> None:
    blob = factories.blob(size)

    async def push() -> BlobLocation:
        staged = await stage(blobs, blob.content[: size // 2], blob.content[size // 2 :])
        assert await staged.digest("sha256") == blob.digest
        location = await staged.commit(digest(blob.digest))
        assert await read(blobs, location, size) == blob.content
        await staged.discard()
        return location

    locations = await asyncio.gather(*(push() for _ in range(16)))
    assert len(set(locations)) == 16
    for location in locations:
        assert await read(blobs, location, size) == blob.content


async def test_sessions_do_not_mix(blobs: Blobs) -> None:
    async def push(seed: int) -> None:
        content = random.Random(seed).randbytes(400_000)
        staged = await stage(blobs, *(content[i : i + 10_000] for i in range(0, len(content), 10_000)))
        name = await staged.digest("sha256")
        assert name == factories.digest_of(content)
        location = await staged.commit(name)
        assert await read(blobs, location, len(content)) == content
        await staged.discard()

    await asyncio.gather(*map(push, range(24)))


# How bytes arrive


@pytest.mark.parametrize("step", [1000, 4096, INLINE - 1, INLINE, INLINE + 1, 417_000, 2 * MEGABYTE, 5 * MEGABYTE])
async def test_large_content_in_chunks_of_any_size(blobs: Blobs, step: int) -> None:
    content = random.randbytes(5 * MEGABYTE + 17)
    staged = await stage(blobs, *(content[i : i + step] for i in range(0, len(content), step)))
    name = await staged.digest("sha256")
    assert (staged.offset, name) == (len(content), factories.digest_of(content))
    location = await staged.commit(name)
    assert await read(blobs, location, len(content)) == content


async def test_chunks_of_one_byte_and_of_none(blobs: Blobs) -> None:
    content = random.randbytes(500)
    staged = await stage(blobs, b"", *(content[i : i + 1] for i in range(500)), b"")
    assert (staged.offset, await staged.digest("sha256")) == (500, factories.digest_of(content))


@pytest.mark.parametrize("first", [0, 10, INLINE, 200_000])
@pytest.mark.parametrize("second", [0, 10, INLINE, 200_000])
async def test_content_in_two_requests(blobs: Blobs, first: int, second: int) -> None:
    content = random.randbytes(first + second)
    staged = await stage(blobs, content[:first])
    assert await staged.digest("sha256") == factories.digest_of(content[:first])
    await staged.write(pieces(content[first:]))
    assert (staged.offset, await staged.digest("sha256")) == (first + second, factories.digest_of(content))


@pytest.mark.parametrize("announced", ALGORITHMS)
@pytest.mark.parametrize("asked", ALGORITHMS)
@pytest.mark.parametrize("size", [0, 10, 200_000])
async def test_digest_of_another_algorithm_than_announced(blobs: Blobs, announced: str, asked: str, size: int) -> None:
    content = random.randbytes(size)
    staged = await stage(blobs, content, algorithm=announced)
    name = await staged.digest(asked)
    assert name == factories.digest_of(content, asked)
    location = await staged.commit(name)
    assert await read(blobs, location, size) == content


@pytest.mark.parametrize("size", [0, 10, INLINE, INLINE + 1, 300_000])
async def test_error_in_the_stream_keeps_what_arrived(blobs: Blobs, size: int) -> None:
    content = random.randbytes(2 * size)
    staged = await blobs.stage(UploadId.new(), "sha256", OWNER)
    halves = (content[: size // 2], content[size // 2 : size])
    with pytest.raises(BodyIncomplete):
        await staged.write(pieces(*halves, then=BodyIncomplete("gone")))
    assert (staged.offset, await staged.digest("sha256")) == (size, factories.digest_of(content[:size]))
    await staged.write(pieces(content[size:]))
    assert (staged.offset, await staged.digest("sha256")) == (2 * size, factories.digest_of(content))


@pytest.mark.parametrize("size", [10, 300_000])
async def test_cancelled_write_keeps_what_arrived(blobs: Blobs, size: int) -> None:
    content = random.randbytes(2 * size)
    staged = await blobs.stage(UploadId.new(), "sha256", OWNER)
    body = Stalled(content[:size])
    writing = asyncio.create_task(staged.write(body))
    await body.stopped.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert (staged.offset, await staged.digest("sha256")) == (size, factories.digest_of(content[:size]))
    await staged.write(pieces(content[size:]))
    assert await staged.digest("sha256") == factories.digest_of(content)


async def test_slow_store_slows_the_sender_down(blobs: Blobs) -> None:
    """Memory stays bounded: a store never has more than a few chunks in its hands."""
    staged = await blobs.stage(UploadId.new(), "sha256", OWNER)
    waiting: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for given in range(40):
            waiting.append(given - staged.offset // 500_000)
            yield bytes(500_000)

    await staged.write(body())
    assert staged.offset == 40 * 500_000
    assert max(waiting) <= 3


@pytest.mark.parametrize("size", [10, INLINE, INLINE + 1, 400_000])
@pytest.mark.parametrize("kept", [0, 1, 5, INLINE, 100_000])
@pytest.mark.parametrize("rest", [0, 10, 200_000])
@pytest.mark.parametrize("aside", [True, False])
async def test_truncated_bytes_are_as_if_they_had_never_come(
    blobs: Blobs,
    size: int,
    kept: int,
    rest: int,
    aside: bool,  # noqa: FBT001
) -> None:
    content, more = random.randbytes(size), random.randbytes(rest)
    upload = UploadId.new()
    staged = await blobs.resume(upload, "sha256", OWNER)
    await staged.write(pieces(content[: size // 3], content[size // 3 :]))
    if aside:
        await staged.suspend()
        staged = await blobs.resume(upload, "sha256", OWNER)
    await staged.truncate(kept)
    expected = content[:kept]
    assert (staged.offset, await staged.digest("sha256")) == (len(expected), factories.digest_of(expected))
    await staged.write(pieces(more))
    expected += more
    name = await staged.digest("sha256")
    assert (staged.offset, name) == (len(expected), factories.digest_of(expected))
    assert await staged.content() == expected
    location = await staged.commit(name)
    assert await read(blobs, location, len(expected)) == expected


# Sessions that are put aside


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_suspended_session_is_resumed(blobs: Blobs, size: int, algorithm: str) -> None:
    content = random.randbytes(size + 100)
    upload = UploadId.new()
    staged = await blobs.resume(upload, algorithm, OWNER)
    await staged.write(pieces(content[:size]))
    await staged.suspend()
    resumed = await blobs.resume(upload, algorithm, OWNER)
    assert (resumed.offset, await resumed.digest(algorithm)) == (size, factories.digest_of(content[:size], algorithm))
    await resumed.write(pieces(content[size:]))
    name = await resumed.digest(algorithm)
    assert name == factories.digest_of(content, algorithm)
    location = await resumed.commit(name)
    assert await read(blobs, location, len(content)) == content


@pytest.mark.parametrize("seed", range(20))
async def test_any_order_of_writes_and_rests(blobs: Blobs, seed: int) -> None:
    chance = random.Random(seed)
    upload = UploadId.new()
    staged = await blobs.resume(upload, "sha256", OWNER)
    hasher, size = hashlib.sha256(), 0
    for _ in range(chance.randrange(1, 12)):
        chunks = [chance.randbytes(chance.choice([0, 1, 999, INLINE, 100_000])) for _ in range(chance.randrange(4))]
        await staged.write(pieces(*chunks))
        hasher.update(b"".join(chunks))
        size += sum(map(len, chunks))
        if chance.random() < 0.4:
            await staged.suspend()
            if chance.random() < 0.5:
                staged = await blobs.resume(upload, "sha256", OWNER)
        assert staged.offset == size
    name = await staged.digest("sha256")
    assert name.encoded == hasher.hexdigest()
    found = await read(blobs, await staged.commit(name), size)
    assert found is not None
    assert factories.digest_of(found) == name
    await staged.discard()
