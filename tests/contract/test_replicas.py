"""Replicas that share a bucket and a database: each request of an upload may come to another one."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any, Final

import pytest

import factories
from support.actors import named
from support.core import OTHER, REPO, digest, names, pieces
from support.metadata import EmbeddedMetadata
from support.s3 import LateBucket, S3Server
from trow.metadata.uploads import SharedUploads
from trow.oci.errors import DigestMismatch, Unavailable, UploadBusy, UploadUnknown
from trow.registry.ports import BlobRecord, UploadBounds
from trow.registry.pull import Pull
from trow.registry.push import Push
from trow.registry.sessions import Chunk, Sessions
from trow.storage.filesystem import FilesystemBlobs
from trow.storage.s3 import PART, S3Blobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trow.registry.sessions import SessionKey

pytestmark = pytest.mark.slow

BOUNDS: Final = UploadBounds(100, 100, 100)
STEP: Final = 417_000
NOBODY: Final = named("")


def chunk(content: bytes) -> Chunk:
    return Chunk(pieces(*(content[at : at + STEP] for at in range(0, len(content), STEP))), None, len(content))


class Replicas:
    """Two of them; the metadata is one."""

    def __init__(self, metadata: EmbeddedMetadata, server: S3Server, folder: Path, stack: contextlib.ExitStack) -> None:
        self.metadata = metadata
        self.uploads = SharedUploads(metadata.engine)
        bucket: Any = LateBucket(server.settings())
        self.stores = [self._store(bucket, folder / name, stack) for name in ("one", "two")]
        self.one, self.two = (self._push(store) for store in self.stores)
        self.pull = Pull(self.stores[0], metadata)

    def _store(self, bucket: Any, folder: Path, stack: contextlib.ExitStack) -> S3Blobs:
        folder.mkdir()
        spool = stack.enter_context(contextlib.closing(FilesystemBlobs(folder)))
        spool.prepare()
        return S3Blobs(bucket, spool, self.metadata.reserve, shared=True)

    def _push(self, store: S3Blobs) -> Push:
        sessions = Sessions(store, self.uploads, BOUNDS, expiry=3600, empty_expiry=300)
        return Push(store, self.metadata, sessions, most_bytes=10 * PART)

    async def content(self, content: bytes) -> bytes:
        found = await self.pull.blob(REPO, digest(factories.digest_of(content)))
        return await self.pull.content(found)


@pytest.fixture(params=["versitygw", "minio"])
def replicas(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Replicas]:
    server: S3Server = request.getfixturevalue(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    with contextlib.ExitStack() as stack:
        metadata = stack.enter_context(contextlib.closing(EmbeddedMetadata(tmp_path / "trow.db")))
        yield Replicas(metadata, server, tmp_path, stack)


async def begin(replicas: Replicas) -> SessionKey:
    return await replicas.one.sessions.begin(REPO, NOBODY)


SIZES: Final = [(10, 10), (10, 100_000), (100_000, 100_000), (PART + 10, 10), (10, PART + 10), (2 * PART, 2 * PART + 7)]


@pytest.mark.parametrize(("first", "second"), SIZES)
async def test_upload_goes_on_at_another_replica(replicas: Replicas, first: int, second: int) -> None:
    content = random.randbytes(first + second)
    key = await begin(replicas)
    assert await replicas.one.append(key, chunk(content[:first])) == first
    assert await replicas.two.status(key) == first
    assert await replicas.two.append(key, chunk(content[first:])) == first + second
    assert await replicas.one.status(key) == first + second
    name = digest(factories.digest_of(content))
    assert await replicas.one.finish(key, chunk(b""), name) == first + second
    assert await replicas.content(content) == content
    with pytest.raises(UploadUnknown):
        await replicas.two.status(key)
    assert len([each async for each in names(replicas.stores[0], 9)]) == (first + second > 64 * 1024)


async def test_each_chunk_may_come_to_another_replica(replicas: Replicas) -> None:
    chance = random.Random(7)
    content, key = chance.randbytes(3 * PART), await begin(replicas)
    at = 0
    while at < len(content):
        size = chance.choice([1000, 300_000, PART // 2, PART + 5])
        push = chance.choice([replicas.one, replicas.two])
        at = await push.append(key, chunk(content[at : at + size]))
    await replicas.two.finish(key, chunk(b""), digest(factories.digest_of(content)))
    assert await replicas.content(content) == content


async def test_wrong_digest_at_another_replica_is_found_by_reading_again(replicas: Replicas) -> None:
    content, key = random.randbytes(3 * PART), await begin(replicas)
    await replicas.one.append(key, chunk(content))
    with pytest.raises(DigestMismatch):
        await replicas.two.finish(key, chunk(b"more"), digest(factories.blob().digest))
    with pytest.raises(UploadUnknown):  # it is one object already, and cannot be written to
        await replicas.two.append(key, chunk(b"more"))
    key = await begin(replicas)
    await replicas.two.append(key, chunk(content))
    await replicas.one.finish(key, chunk(b""), digest(factories.digest_of(content)))
    assert await replicas.content(content) == content


@pytest.mark.parametrize("size", [100_000, 2 * PART])
@pytest.mark.parametrize("late", [b"", b"other bytes"])
async def test_blob_is_not_changed_by_who_finishes_its_upload_elsewhere(
    replicas: Replicas, size: int, late: bytes
) -> None:
    """Or whoever pushes two blobs by one upload could give the digest of one the bytes of the other."""
    content, key = random.randbytes(size), await begin(replicas)
    await replicas.one.append(key, chunk(content))
    await replicas.two.status(key)
    slow = replicas.two.sessions.add(key, chunk(b""))
    staged = await slow.__aenter__()
    await replicas.one.finish(key, chunk(b""), digest(factories.digest_of(content)))
    other = content + late
    refused: list[str] = []
    try:
        await staged.write(pieces(late))
        name = await staged.digest("sha256")
        location = await staged.commit(name)
        assert name == factories.digest_of(other)
        await replicas.metadata.link_blob(OTHER, name, BlobRecord(len(other), None, location))
    except (UploadUnknown, Unavailable) as error:
        refused.append(error.message)
    with contextlib.suppress(UploadBusy):
        await slow.__aexit__(None, None, None)
    assert await replicas.content(content) == content
    if not refused:
        found = await replicas.pull.blob(OTHER, digest(factories.digest_of(other)))
        assert await replicas.pull.content(found) == other


async def test_of_two_replicas_that_write_at_once_one_is_told_to_look(replicas: Replicas) -> None:
    """As when a client gives up on a request that still runs, and repeats it."""
    content, key = random.randbytes(200_000), await begin(replicas)
    await replicas.one.append(key, chunk(content[:100_000]))
    slow = replicas.one.sessions.add(key, chunk(b""))
    staged = await slow.__aenter__()
    assert await replicas.two.append(key, chunk(content[100_000:])) == 200_000
    await staged.write(pieces(b"late"))
    with pytest.raises(UploadBusy):
        await slow.__aexit__(None, None, None)
    assert await replicas.one.status(key) == 200_000
    await replicas.one.finish(key, chunk(b""), digest(factories.digest_of(content)))
    assert await replicas.content(content) == content


async def test_upload_of_a_replica_that_is_gone_expires_with_its_bytes(replicas: Replicas) -> None:
    key = await begin(replicas)
    await replicas.one.append(key, chunk(bytes(2 * PART)))
    (record,) = await replicas.uploads.expire(2**40, 2**40)
    await replicas.two.sessions._discard(record)  # noqa: SLF001 - as `expire` does, whose clock is that of the machine
    assert [each async for each in names(replicas.stores[1], 9)] == []
    with pytest.raises(UploadUnknown):
        await replicas.one.append(key, chunk(b"more"))
