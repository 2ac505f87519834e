"""The first half of ``docker push``: blobs, in one request or in many.

A session is opened in the metadata (who, which repository), its bytes are staged in the blob store. Between requests
the staged bytes of recent sessions stay open, because the state of a hash cannot be saved: a session that comes back
after it was put aside is read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from trow.oci.digest import CANONICAL
from trow.oci.errors import (
    BlobTooLarge,
    DigestMismatch,
    SizeInvalid,
    TooManyRequests,
    Unavailable,
    UploadBusy,
    UploadUnknown,
)
from trow.oci.names import UploadId
from trow.oci.ranges import ByteRange, check_chunk
from trow.registry.ports import BlobRecord, Upload
from trow.registry.presence import locate

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence

    from trow.oci.digest import Digest
    from trow.oci.names import Repository
    from trow.registry.ports import Blobs, Metadata, Staged

# Blobs up to this size live in the metadata: one commit stores and links them, and other pushes share its flush.
INLINE: Final = 64 * 1024
# Sessions whose staged bytes stay open between requests: a file and at most 64 KiB each.
_LIVE: Final = 256
# Sessions that are remembered after their end, for clients that lost the answer.
_FINISHED: Final = 1024
# How long a request waits for another one that writes to the same session: a client that lost its connection resumes.
_BUSY_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 5
# How many repositories an anonymous mount looks at for one that the client may read.
_MOUNT_CANDIDATES: Final = 100


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one request brings: its bytes, their place if the client named it, and their number if it was announced."""

    body: AsyncIterable[bytes]
    place: ByteRange | None = None
    length: int | None = None


class _Cut(NamedTuple):
    """A request that came to no good end: where its bytes begin, and how many it had announced."""

    start: int
    length: int


@dataclass(slots=True)
class _Live:
    """A session whose staged bytes are open; ``cut`` is what a client may be about to repeat."""

    staged: Staged
    cut: _Cut | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @contextlib.asynccontextmanager
    async def adding(self, chunk: Chunk) -> AsyncIterator[Staged]:
        """Add a request's bytes, which are forgotten when they prove wrong, and kept when the request was cut off.

        Clients repeat a request that was cut off: at the same location, from its first byte. Nothing marks it as a
        repetition, but whoever would go on instead has asked before how much is there, or sends fewer bytes.
        """
        cut, self.cut = self.cut, None
        if cut is not None and chunk.place is None and chunk.length == cut.length:
            await self.staged.truncate(cut.start)
        start = self.staged.offset
        try:
            yield self.staged
        except (DigestMismatch, SizeInvalid):
            await self.staged.truncate(start)
            raise
        except BaseException:
            if chunk.place is None and chunk.length:
                self.cut = _Cut(start, chunk.length)
            raise


class _Finished(NamedTuple):
    """What became of a session."""

    repository: Repository
    subject: str
    digest: Digest
    size: int


class Push:
    """Receives blobs.

    Args:
        blobs: where bytes go.
        metadata: where names go.
        most_uploads: how many sessions may be open at a time.
        most_bytes: how large a blob may be.
        expiry: after how many idle seconds a session ends.
    """

    def __init__(self, blobs: Blobs, metadata: Metadata, *, most_uploads: int, most_bytes: int, expiry: float) -> None:
        self._blobs = blobs
        self._metadata = metadata
        self._most_uploads = most_uploads
        self._most_bytes = most_bytes
        self._expiry = expiry
        self._live: OrderedDict[UploadId, _Live] = OrderedDict()
        self._finished: OrderedDict[UploadId, _Finished] = OrderedDict()
        self._committing: Counter[Digest] = Counter()

    async def begin(self, repository: Repository, subject: str, algorithm: str = CANONICAL) -> UploadId:
        """Open a session.

        Raises:
            TooManyRequests: too many are open.
        """
        upload = Upload(UploadId.new(), repository, subject, algorithm, time.time())
        if not await self._metadata.begin_upload(upload, self._most_uploads):
            raise TooManyRequests("too many uploads are open; finish or cancel some", retry_after=_RETRY_SECONDS)
        await self._keep(upload.id, _Live(await self._blobs.stage(upload.id, algorithm)))
        return upload.id

    async def append(self, repository: Repository, subject: str, upload: UploadId, chunk: Chunk) -> int:
        """Add a chunk; returns how many bytes the session has.

        Raises:
            UploadUnknown, UploadBusy, ChunkOutOfOrder, SizeInvalid, BlobTooLarge: nothing was added.
        """
        async with self._session(repository, subject, upload) as live, live.adding(chunk) as staged:
            await self._write(staged, chunk)
            return staged.offset

    async def finish(self, repository: Repository, subject: str, upload: UploadId, chunk: Chunk, digest: Digest) -> int:
        """Add the last chunk, which may be empty, and make the whole a blob of the repository; returns its size.

        A client that never saw the answer may ask once more and gets it again.

        Raises:
            DigestMismatch: the bytes are not what ``digest`` says; those of this request are forgotten.
            UploadUnknown, UploadBusy, ChunkOutOfOrder, SizeInvalid, BlobTooLarge: nothing was added.
        """
        finished = self._finished.get(upload)
        if finished is not None and finished[:3] == (repository, subject, digest):
            return await self._repeat(finished, upload, chunk)
        async with self._session(repository, subject, upload) as live, live.adding(chunk) as staged:
            await self._write(staged, chunk)
            size = staged.offset
            await self._store(repository, upload, staged, digest)
            self._live.pop(upload, None)
            self._finished[upload] = _Finished(repository, subject, digest, size)
            if len(self._finished) > _FINISHED:
                self._finished.popitem(last=False)
            return size

    async def _repeat(self, finished: _Finished, upload: UploadId, chunk: Chunk) -> int:
        if await self._metadata.blob(finished.repository, finished.digest) is None:
            raise _unknown(upload)
        async for _ in chunk.body:
            pass
        return finished.size

    async def whole(self, repository: Repository, chunk: Chunk, digest: Digest) -> None:
        """Receive a blob in a single request, without a session that anybody could come back to.

        Raises:
            DigestMismatch, SizeInvalid, BlobTooLarge: nothing is kept.
        """
        upload = UploadId.new()
        staged = await self._blobs.stage(upload, digest.algorithm)
        try:
            await self._write(staged, chunk)
            await self._store(repository, upload, staged, digest)
        except BaseException:
            await staged.discard()
            raise

    async def status(self, repository: Repository, subject: str, upload: UploadId) -> int:
        """How many bytes a session has."""
        async with self._session(repository, subject, upload) as live:
            live.cut = None
            return live.staged.offset

    async def cancel(self, repository: Repository, subject: str, upload: UploadId) -> None:
        """End a session and forget its bytes."""
        async with self._session(repository, subject, upload) as live:
            self._live.pop(upload, None)
            await self._metadata.end_upload(upload)
            await live.staged.discard()

    async def mount(
        self,
        repository: Repository,
        digest: Digest,
        source: Repository | None,
        readable: Callable[[Repository], Awaitable[bool]],
    ) -> Repository | None:
        """Link a blob of another repository that the client may read, and name that one; None when there is none.

        A blob whose bytes are lost is none. Without ``source`` any repository that has the blob will do.
        """
        sources: Sequence[Repository] = (
            await self._metadata.repositories_with(digest, _MOUNT_CANDIDATES) if source is None else [source]
        )
        allowed = [candidate for candidate in sources if await readable(candidate)]
        if not await self._held(allowed, digest):
            return None
        return await self._metadata.mount_blob(repository, digest, allowed)

    async def _held(self, repositories: Sequence[Repository], digest: Digest) -> bool:
        """Whether one of these has the blob, and its bytes are there: who is told so will not send them."""
        for repository in repositories:
            record = await self._metadata.blob(repository, digest)
            if record is not None:
                return await locate(self._blobs, digest, record) is not None
        return False

    async def expire(self) -> int:
        """End the sessions that were idle for too long; returns how many."""
        now = time.time()
        for upload in [each for each, live in self._live.items() if live.lock.locked()]:
            await self._metadata.touch_upload(upload, now)  # bytes are arriving
        expired = await self._metadata.expire_uploads(now - self._expiry)
        for upload in expired:
            live = self._live.pop(upload, None)
            staged = live.staged if live else await self._blobs.stage(upload, CANONICAL)
            await staged.discard()
        return len(expired)

    async def close(self) -> None:
        """Put all sessions aside, so that they can go on after a restart."""
        while self._live:
            _, live = self._live.popitem()
            await live.staged.suspend()

    @contextlib.asynccontextmanager
    async def _session(self, repository: Repository, subject: str, upload: UploadId) -> AsyncIterator[_Live]:
        """A session, for this request alone."""
        record = await self._metadata.upload(upload)
        if record is None or (record.repository, record.subject) != (repository, subject):
            raise _unknown(upload)
        live = self._live.get(upload)
        if live is None:
            live = _Live(await self._blobs.stage(upload, record.algorithm))
            await self._keep(upload, live)
        async with _exclusive(live.lock):
            if await self._metadata.upload(upload) is None:  # it ended while this request waited
                self._live.pop(upload, None)
                raise _unknown(upload)
            yield live
            await self._metadata.touch_upload(upload, time.time())

    async def _keep(self, upload: UploadId, live: _Live) -> None:
        self._live[upload] = live
        while len(self._live) > _LIVE:
            idle = next((key for key, other in self._live.items() if not other.lock.locked()), None)
            if idle is None or idle == upload:
                return
            await self._live.pop(idle).staged.suspend()

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
                raise SizeInvalid("the chunk is longer than its Content-Range")
            yield piece

    def _too_large(self) -> BlobTooLarge:
        return BlobTooLarge(f"the blob is larger than {self._most_bytes} bytes (registry.max_blob_size)")

    async def _store(self, repository: Repository, upload: UploadId, staged: Staged, digest: Digest) -> None:
        """Verify, make durable, link: in this order, so that no name ever points at bytes that are not there."""
        actual = await staged.digest(digest.algorithm)
        if actual != digest:
            raise DigestMismatch("the content does not have this digest", {"claimed": digest, "actual": actual})
        size = staged.offset
        if size <= INLINE:
            record = BlobRecord(size, await staged.content())
            await self._metadata.link_blob(repository, digest, record, upload)
        else:
            await self._store_file(repository, upload, staged, digest)
        # The blob is there, whatever becomes of its second name; the next start removes what stays of it.
        with contextlib.suppress(Unavailable):
            await staged.discard()

    async def _store_file(self, repository: Repository, upload: UploadId, staged: Staged, digest: Digest) -> None:
        self._committing[digest] += 1
        try:
            await staged.commit(digest)
            try:
                await self._metadata.link_blob(repository, digest, BlobRecord(staged.offset, None), upload)
            except Unavailable:
                await self._take_back(staged, digest)
                raise
        finally:
            self._committing[digest] -= 1
            if not self._committing[digest]:
                del self._committing[digest]

    async def _take_back(self, staged: Staged, digest: Digest) -> None:
        """No blob may stay that nobody knows of. One that others have, or are about to, must not be written to."""
        alone = self._committing[digest] == 1
        if alone and not await self._metadata.knows_blob(digest):
            staged.revoke()
        else:
            await staged.discard()


def _unknown(upload: UploadId) -> UploadUnknown:
    return UploadUnknown("there is no such upload session; it may have expired", {"upload": upload})


@contextlib.asynccontextmanager
async def _exclusive(lock: asyncio.Lock) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_BUSY_SECONDS):
            await lock.acquire()
    except TimeoutError:
        raise UploadBusy("another request is writing to this upload") from None
    try:
        yield
    finally:
        lock.release()
