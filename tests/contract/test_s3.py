"""What the store in a bucket does beyond its port: parts, what it leaves behind, and a bucket that does not work."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest

import factories
from support.core import OWNER, digest, names, pieces
from support.s3 import BUCKET, LateBucket, S3Server, s3_blobs
from trow.oci.errors import BlobUnknown, Unavailable, UploadUnknown
from trow.oci.names import UploadId
from trow.registry.location import BlobLocation
from trow.registry.ports import Redirect, Stream
from trow.storage.bucket import UploadPart
from trow.storage.s3 import PART, S3Blobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trow.storage.s3 import S3Staged

pytestmark = pytest.mark.slow

STEP = 417_000


@pytest.fixture(params=["versitygw", "minio"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def blobs(server: S3Server, tmp_path: Path) -> Iterator[S3Blobs]:
    store, spool = s3_blobs(server, tmp_path)
    with contextlib.closing(spool):
        yield store


def chunks(content: bytes) -> list[bytes]:
    return [content[at : at + STEP] for at in range(0, len(content), STEP)]


async def stage(blobs: S3Blobs, content: bytes) -> S3Staged:
    staged = await blobs.stage(UploadId.new(), "sha256", OWNER)
    await staged.write(pieces(*chunks(content)))
    return staged


def place(staged: S3Staged) -> BlobLocation:
    """Where its parts go."""
    assert staged._location is not None  # noqa: SLF001
    return staged._location  # noqa: SLF001


async def content_at(blobs: S3Blobs, location: BlobLocation) -> bytes:
    return b"".join([piece async for piece in blobs.read(location)])


async def unfinished(blobs: S3Blobs, location: BlobLocation) -> int:
    """Multipart uploads of one key: those that the server lists where it is asked for it exactly."""
    late: Any = blobs.bucket
    bucket = await late.opened()
    return len(await bucket._uploads(f"blobs/{location}"))  # noqa: SLF001


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 3 * PART + 17])
async def test_blob_of_many_parts(blobs: S3Blobs, size: int) -> None:
    content = random.randbytes(size)
    staged = await stage(blobs, content)
    location = await staged.commit(await staged.digest("sha256"))
    await staged.discard()
    assert await content_at(blobs, location) == content
    assert await blobs.locate(location, size) is not None
    assert [each.location async for each in names(blobs, 9)] == [location]
    assert await unfinished(blobs, location) == 0


@pytest.mark.parametrize("kept", [0, 1000, PART, PART + 1, 2 * PART + 5])
async def test_parts_that_were_sent_can_be_taken_back(blobs: S3Blobs, kept: int) -> None:
    content, more = random.randbytes(2 * PART + 1000), random.randbytes(PART)
    staged = await stage(blobs, content)
    await staged.truncate(kept)
    expected = content[:kept] + more
    await staged.write(pieces(*chunks(more)))
    assert staged.offset == len(expected)
    location = await staged.commit(await staged.digest("sha256"))
    assert await content_at(blobs, location) == expected


async def test_location_is_reserved_before_anything_is_there(blobs: S3Blobs) -> None:
    reserved: Any = blobs._reserve  # noqa: SLF001
    few = await stage(blobs, bytes(10))
    assert reserved.reserved == []
    location = await few.commit(await few.digest("sha256"))
    many = await stage(blobs, bytes(2 * PART))
    assert len(reserved.reserved) == 2
    assert reserved.reserved[0] == location
    await many.discard()


async def test_upload_whose_reservation_has_ended_brings_no_blob(server: S3Server, tmp_path: Path) -> None:
    async def late(_: BlobLocation) -> bool:
        return False

    _, spool = s3_blobs(server, tmp_path)
    with contextlib.closing(spool):
        bucket: Any = LateBucket(server.settings())
        blobs = S3Blobs(bucket, spool, late)
        staged = await stage(blobs, bytes(10))
        with pytest.raises(UploadUnknown):
            await staged.commit(await staged.digest("sha256"))
        assert [each async for each in names(blobs, 9)] == []


async def test_upload_that_is_given_up_leaves_nothing(blobs: S3Blobs) -> None:
    staged = await stage(blobs, bytes(2 * PART))
    location = place(staged)
    assert await unfinished(blobs, location) == 1
    await staged.discard()
    assert await unfinished(blobs, location) == 0
    assert [each async for each in names(blobs, 9)] == []


async def test_removal_ends_the_uploads_that_a_crash_has_left(blobs: S3Blobs) -> None:
    location = place(await stage(blobs, bytes(2 * PART)))
    assert not await blobs.delete(location)  # no blob was there
    assert await unfinished(blobs, location) == 0


async def test_commit_whose_answer_was_lost_is_found_to_be_done(blobs: S3Blobs) -> None:
    """Some servers say then that there is no such upload."""
    bucket, location = blobs.bucket, BlobLocation.of_upload(UploadId.new())
    key = f"blobs/{location}"
    upload = await bucket.begin(key)
    parts = [UploadPart(1, await bucket.part(key, upload, 1, bytes(1000)), 1000)]
    for _ in range(3):
        assert await bucket.complete(key, upload, parts)
    assert not await bucket.complete(key, upload, [UploadPart(1, f'"{"0" * 32}"', 1000)])  # others have finished it
    with pytest.raises(Unavailable):  # where there is nothing it was not
        await bucket.complete(f"blobs/{UploadId.new()}", upload, parts)


async def test_clients_get_blobs_from_an_address_of_their_own(server: S3Server, tmp_path: Path) -> None:
    blobs, spool = s3_blobs(server, tmp_path, redirect_seconds=60)
    with contextlib.closing(spool):
        blob = factories.blob(100_000)
        staged = await stage(blobs, blob.content)
        location = await staged.commit(digest(blob.digest))
        found = await blobs.locate(location, blob.size)
        assert isinstance(found, Redirect)
        assert await blobs.locate(location, blob.size) == found
        asked = await asyncio.create_subprocess_exec("curl", "-sSf", found.url, stdout=asyncio.subprocess.PIPE)
        assert (await asked.communicate())[0] == blob.content
        assert await blobs.locate(location, 7) is None


async def test_reading_goes_on_where_the_bucket_broke_off(
    blobs: S3Blobs, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = random.randbytes(3_000_000)
    staged = await stage(blobs, content)
    location = await staged.commit(await staged.digest("sha256"))
    got = b""
    async with contextlib.aclosing(blobs.read(location, 10)) as reading:
        async for piece in reading:
            if not got:
                server.down()
                server.up()
            got += piece
    assert got == content[10:]


async def test_bucket_that_is_gone_is_no_lost_blob(blobs: S3Blobs, server: S3Server) -> None:
    """Nobody is told that a blob is unknown, the bytes of uploads stay, and all goes on when the bucket is back."""
    blob, large = factories.blob(100_000), random.randbytes(2 * PART)
    staged = await stage(blobs, blob.content)
    pushed = await stage(blobs, blob.content)
    location = await pushed.commit(digest(blob.digest))
    server.down()
    try:
        for trying in (blobs.check(), blobs.locate(location, blob.size), blobs.lost([(location, 1)])):
            with pytest.raises(Unavailable):
                await trying
        with pytest.raises(Unavailable):
            await content_at(blobs, location)
        with pytest.raises(Unavailable):
            await staged.commit(digest(blob.digest))
        growing = await blobs.stage(UploadId.new(), "sha256", OWNER)
        with pytest.raises(Unavailable):
            await growing.write(pieces(*chunks(large)))
    finally:
        server.up()
    await blobs.check()
    assert isinstance(await blobs.locate(location, blob.size), Stream)
    again = await staged.commit(digest(blob.digest))
    assert await content_at(blobs, again) == blob.content
    await growing.write(pieces(*chunks(large[growing.offset :])))
    there = await growing.commit(await growing.digest("sha256"))
    assert await content_at(blobs, there) == large


async def test_object_that_somebody_removed_is_lost(blobs: S3Blobs, server: S3Server) -> None:
    blob = factories.blob(100_000)
    location = await (await stage(blobs, blob.content)).commit(digest(blob.digest))
    bucket: Any = blobs.bucket
    async with server.client() as client:
        prefix = bucket._settings.prefix  # noqa: SLF001
        await client.delete_object(Bucket=BUCKET, Key=f"{prefix}blobs/{location}")
    assert set(await blobs.lost([(location, blob.size)])) == {location}
    assert await blobs.locate(location, blob.size) is None
    with pytest.raises(BlobUnknown):
        await content_at(blobs, location)


async def test_many_uploads_at_once_keep_few_parts_in_memory(blobs: S3Blobs) -> None:
    contents = [random.randbytes(PART + 1000) for _ in range(12)]

    async def push(content: bytes) -> bytes:
        staged = await stage(blobs, content)
        location = await staged.commit(await staged.digest("sha256"))
        await staged.discard()
        return await content_at(blobs, location)

    assert await asyncio.gather(*map(push, contents)) == contents
