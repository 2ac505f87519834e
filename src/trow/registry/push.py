"""The first half of ``docker push``: blobs, in one request or in many."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

from trow.access.permissions import Permission
from trow.lib.caches import LruCache
from trow.oci.errors import (
    BlobTooLarge,
    DigestMismatch,
    SizeInvalid,
    TooManyRequests,
    Unavailable,
    blob_unknown,
)
from trow.oci.names import UploadId
from trow.oci.ranges import check_chunk
from trow.registry.actor import owner_of
from trow.registry.mounts import MountSearch
from trow.registry.ports import BlobRecord
from trow.registry.presence import locate
from trow.registry.sessions import unknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trow.oci.digest import Digest
    from trow.oci.names import Repository
    from trow.registry.actor import Actor, Caller
    from trow.registry.ports import Blobs, Metadata, Staged
    from trow.registry.sessions import Chunk, SessionKey, Sessions

# Blobs up to this size live in the metadata: one commit stores and links them, and other pushes share its flush.
INLINE: Final = 64 * 1024
# Sessions that are remembered after their end, for clients that lost the answer.
_FINISHED: Final = 1024


class _Finished(NamedTuple):
    """What became of a session."""

    key: SessionKey
    digest: Digest
    size: int


class Push:
    """Receives blobs, of up to ``most_bytes``."""

    def __init__(self, blobs: Blobs, metadata: Metadata, sessions: Sessions, *, most_bytes: int) -> None:
        self._blobs = blobs
        self._metadata = metadata
        self.sessions: Final = sessions
        self._most_bytes = most_bytes
        self._anywhere = MountSearch(metadata)
        self._finished: LruCache[UploadId, _Finished] = LruCache(_FINISHED)

    async def append(self, key: SessionKey, chunk: Chunk) -> int:
        """Add a chunk; returns how many bytes the session has.

        Raises:
            UploadUnknown, UploadBusy, ChunkOutOfOrder, SizeInvalid, BlobTooLarge: nothing was added.
        """
        async with self.sessions.add(key, chunk) as staged:
            await self._write(staged, chunk)
            return staged.offset

    async def finish(self, key: SessionKey, chunk: Chunk, digest: Digest) -> int:
        """Add the last chunk, which may be empty, and make the whole a blob of the repository; returns its size.

        A client that never saw the answer may ask once more and gets it again.

        Raises:
            DigestMismatch: the bytes are not what ``digest`` says; those of this request are forgotten.
            UploadUnknown, UploadBusy, ChunkOutOfOrder, SizeInvalid, BlobTooLarge: nothing was added.
        """
        finished = self._finished.get(key.upload)
        if finished is not None and (finished.key, finished.digest) == (key, digest):
            if await self._metadata.blob(key.repository, digest) is None:
                raise unknown(key.upload)
            async for _ in chunk.body:
                pass
            return finished.size
        async with self.sessions.add(key, chunk) as staged:
            await self._write(staged, chunk)
            size = staged.offset
            await self._store(key.repository, key.upload, staged, digest)
            self._finished.put(key.upload, _Finished(key, digest, size))
            return size

    async def monolithic(self, repository: Repository, caller: Caller, chunk: Chunk, digest: Digest) -> None:
        """Receive a blob in a single request, without a session that anybody could come back to.

        Raises:
            DigestMismatch, SizeInvalid, BlobTooLarge: nothing is kept.
        """
        upload = UploadId.new()
        staged = await self._blobs.stage(upload, digest.algorithm, owner_of(caller))
        try:
            await self._write(staged, chunk)
            await self._store(repository, upload, staged, digest)
        except BaseException:
            await staged.discard()
            raise

    async def status(self, key: SessionKey) -> int:
        """How many bytes a session has."""
        async with self.sessions.use(key) as live:
            live.interrupted = None
            return live.staged.offset

    async def cancel(self, key: SessionKey) -> None:
        """End a session and forget its bytes."""
        async with self.sessions.use(key) as live:
            await self.sessions.end(key.upload)
            await live.staged.discard()

    async def delete(self, repository: Repository, digest: Digest) -> None:
        """Take a blob from a repository.

        Raises:
            BlobUnknown: the repository has no such blob.
        """
        if not await self._metadata.unlink_blob(repository, digest):
            raise blob_unknown(repository, digest)

    async def mount(
        self, repository: Repository, digest: Digest, source: Repository | None, actor: Actor
    ) -> Repository | None:
        """Link a blob of another repository that the actor may pull, and name that one; None when there is none.

        A blob whose bytes are lost does not count. Without ``source`` any repository that has the blob will do. If it
        cannot be found out whether the actor may read it, the client sends the bytes: a mount never refuses a push.
        """
        if source is None:
            source = await self._anywhere.find(digest, actor)
        else:
            may = False
            with contextlib.suppress(TooManyRequests, Unavailable):
                may = await actor.may(Permission.PULL, source)
            if not may:
                return None
        record = None if source is None else await self._metadata.blob(source, digest)
        if source is None or record is None or await locate(self._blobs, record) is None:
            return None
        return await self._metadata.mount_blob(repository, digest, [source])

    async def _write(self, staged: Staged, chunk: Chunk) -> None:
        if chunk.place is not None:
            check_chunk(chunk.place, staged.offset, chunk.length)
        room = self._most_bytes - staged.offset
        if chunk.length is not None and chunk.length > room:
            raise self._too_large()
        if chunk.length != 0:
            await staged.write(self._within(chunk, room))

    async def _within(self, chunk: Chunk, room: int) -> AsyncIterator[bytes]:
        """The chunk's bytes, as long as they fit into the blob and into the place that the client named."""
        place = chunk.place.length if chunk.place is not None else room
        received = 0
        async for piece in chunk.body:
            received += len(piece)
            if received > room:
                raise self._too_large()
            if received > place:
                raise SizeInvalid("the chunk is longer than its Content-Range; send as many bytes as that says")
            yield piece

    def _too_large(self) -> BlobTooLarge:
        return BlobTooLarge(
            f"the blob is larger than {self._most_bytes} bytes; make it smaller, or raise registry.max_blob_size"
        )

    async def _store(self, repository: Repository, upload: UploadId, staged: Staged, digest: Digest) -> None:
        """Verify, make durable, link: in this order, so that no name ever points at bytes that are not there."""
        actual = await staged.digest(digest.algorithm)
        if actual != digest:
            raise DigestMismatch(
                f"the content has the digest {actual}, not {digest}; send it again",
                {"claimed": digest, "actual": actual},
            )
        size = staged.offset
        if size <= INLINE:
            record = BlobRecord(size, await staged.content())
            await self._metadata.link_blob(repository, digest, record)
        else:
            await self._store_file(repository, upload, staged, digest)
        await self.sessions.end(upload)
        # The blob is there, whatever becomes of its second name; the next start removes what stays of it.
        with contextlib.suppress(Unavailable):
            await staged.discard()

    async def _store_file(self, repository: Repository, upload: UploadId, staged: Staged, digest: Digest) -> None:
        location = await staged.commit(digest)
        try:
            await self._metadata.link_blob(repository, digest, BlobRecord(staged.offset, None, location))
        except Unavailable:
            # What nobody knows of may be written to once more.
            try:
                known = await self._metadata.knows_location(digest, location)
            except Unavailable:  # and it cannot be told now: the next start asks again
                await self.sessions.end(upload)
                await staged.leave()
                raise
            if known:
                await self.sessions.end(upload)
            await (staged.discard() if known else staged.revoke())
            raise
