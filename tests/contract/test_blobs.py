"""What every store of blobs does."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import TYPE_CHECKING

import pytest

import factories
from factories import INLINE
from support.core import OWNER, Stalled, digest, pieces
from trow.oci.digest import ALGORITHMS
from trow.oci.errors import BodyIncomplete
from trow.oci.names import UploadId
from trow.registry.ports import LocalFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trow.oci.digest import Digest
    from trow.registry.ports import Blobs, Staged

MEGABYTE = 1024 * 1024
SIZES = [0, 1, INLINE, INLINE + 1, 3 * MEGABYTE]


async def stage(blobs: Blobs, *chunks: bytes, algorithm: str = "sha256") -> Staged:
    staged = await blobs.stage(UploadId.new(), algorithm, OWNER)
    await staged.write(pieces(*chunks))
    return staged


async def read(blobs: Blobs, name: Digest, size: int) -> bytes | None:
    source = await blobs.locate(name, size)
    if isinstance(source, LocalFile):
        assert source.size == size
        return source.path.read_bytes()
    return source


# From staged bytes to a blob


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_bytes_are_a_blob_from_commit_on(blobs: Blobs, size: int, algorithm: str) -> None:
    blob = factories.blob(size)
    name = digest(factories.digest_of(blob.content, algorithm))
    staged = await stage(blobs, blob.content, algorithm=algorithm)
    assert staged.offset == size
    assert await staged.digest(algorithm) == name
    assert await blobs.locate(name, size) is None
    await staged.commit(name)
    assert await read(blobs, name, size) == blob.content
    await staged.discard()
    assert await read(blobs, name, size) == blob.content


async def test_blob_that_is_not_here(blobs: Blobs) -> None:
    assert await blobs.locate(digest(factories.blob().digest), 200) is None


@pytest.mark.parametrize("size", [10, 100_000])
async def test_blob_of_another_size_is_not_here(blobs: Blobs, size: int) -> None:
    blob = factories.blob(size)
    await (await stage(blobs, blob.content)).commit(digest(blob.digest))
    for other in (0, size - 1, size + 1):
        assert await blobs.locate(digest(blob.digest), other) is None


async def test_blobs_that_are_lost_are_told_of_many_at_a_time(blobs: Blobs) -> None:
    blob, absent = factories.blob(100_000), digest(factories.blob(7).digest)
    here = digest(blob.digest)
    await (await stage(blobs, blob.content)).commit(here)
    asked = [(here, 100_000), (absent, 7)] * 60
    assert await blobs.lost(asked) == [absent] * 60
    assert await blobs.lost([(here, 99_999)]) == [here]
    assert await blobs.lost([]) == []


async def test_a_blob_that_was_there_a_moment_ago_and_is_not_is_told_of(blobs: Blobs) -> None:
    """What is looked at again and again needs no thread, and is looked at none the less."""
    blob = factories.blob(100_000)
    name = digest(blob.digest)
    await (await stage(blobs, blob.content)).commit(name)
    for _ in range(3):
        assert await blobs.locate(name, 100_000) is not None
    source = await blobs.locate(name, 100_000)
    if isinstance(source, LocalFile):
        source.path.unlink()
        assert await blobs.locate(name, 100_000) is None
        assert await blobs.locate(name, 100_000) is None


@pytest.mark.parametrize("size", [0, 10, 100_000])
async def test_discarded_bytes_are_gone(blobs: Blobs, size: int) -> None:
    blob = factories.blob(size)
    upload = UploadId.new()
    staged = await blobs.resume(upload, "sha256", OWNER)
    await staged.write(pieces(blob.content))
    await staged.discard()
    assert staged.offset == 0
    assert (await blobs.resume(upload, "sha256", OWNER)).offset == 0
    assert await blobs.locate(digest(blob.digest), size) is None


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
    assert await blobs.locate(digest(blob.digest), size) is None
    assert (staged.offset, await staged.digest("sha256")) == (size, blob.digest)
    await staged.commit(digest(blob.digest))
    await staged.discard()
    assert await read(blobs, digest(blob.digest), size) == blob.content


# One blob, many sessions


@pytest.mark.parametrize("size", [10, 100_000])
async def test_blob_that_is_committed_again_stays(blobs: Blobs, size: int) -> None:
    blob = factories.blob(size)
    for _ in range(3):
        staged = await stage(blobs, blob.content)
        await staged.commit(digest(blob.digest))
        assert await read(blobs, digest(blob.digest), size) == blob.content
        await staged.discard()
    assert await read(blobs, digest(blob.digest), size) == blob.content


@pytest.mark.parametrize("size", [10, 500_000])
async def test_same_blob_from_many_sessions_at_once(blobs: Blobs, size: int) -> None:
    blob = factories.blob(size)

    async def push() -> None:
        staged = await stage(blobs, blob.content[: size // 2], blob.content[size // 2 :])
        assert await staged.digest("sha256") == blob.digest
        await staged.commit(digest(blob.digest))
        assert await read(blobs, digest(blob.digest), size) == blob.content
        await staged.discard()

    await asyncio.gather(*(push() for _ in range(16)))
    assert await read(blobs, digest(blob.digest), size) == blob.content


async def test_sessions_do_not_mix(blobs: Blobs) -> None:
    async def push(seed: int) -> None:
        content = random.Random(seed).randbytes(400_000)
        staged = await stage(blobs, *(content[i : i + 10_000] for i in range(0, len(content), 10_000)))
        name = await staged.digest("sha256")
        assert name == factories.digest_of(content)
        await staged.commit(name)
        assert await read(blobs, name, len(content)) == content
        await staged.discard()

    await asyncio.gather(*map(push, range(24)))


# How bytes arrive


@pytest.mark.parametrize("step", [1000, 4096, INLINE - 1, INLINE, INLINE + 1, 417_000, 2 * MEGABYTE, 5 * MEGABYTE])
async def test_large_content_in_chunks_of_any_size(blobs: Blobs, step: int) -> None:
    content = random.randbytes(5 * MEGABYTE + 17)
    staged = await stage(blobs, *(content[i : i + step] for i in range(0, len(content), step)))
    name = await staged.digest("sha256")
    assert (staged.offset, name) == (len(content), factories.digest_of(content))
    await staged.commit(name)
    assert await read(blobs, name, len(content)) == content


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
    await staged.commit(name)
    assert await read(blobs, name, size) == content


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
    await staged.commit(name)
    assert await read(blobs, name, len(expected)) == expected


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
    await resumed.commit(name)
    assert await read(blobs, name, len(content)) == content


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
    await staged.commit(name)
    found = await read(blobs, name, size)
    assert found is not None
    assert factories.digest_of(found) == name
    await staged.discard()
