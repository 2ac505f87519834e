"""Upload sessions: who has which, whose bytes are open, and when one ends.

A session is opened in the metadata (who, which repository), its bytes are staged in the blob store. Between requests
the staged bytes of recent sessions stay open, because the state of a hash cannot be saved: a session that comes back
after it was put aside is read again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from trow.lib.steady import steady_clock
from trow.oci.digest import CANONICAL
from trow.oci.errors import DigestMismatch, SizeInvalid, Unavailable, UploadBusy, UploadUnknown
from trow.oci.names import UploadId
from trow.registry.actor import owner_of
from trow.registry.ports import Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable

    from trow.oci.names import Repository
    from trow.oci.ranges import ByteRange
    from trow.registry.actor import Caller
    from trow.registry.ports import Blobs, Staged, UploadBounds, Uploads

# Sessions whose staged bytes stay open between requests: a file and at most 64 KiB each.
MOST_KEPT_OPEN: Final = 256
# How long a request waits for another one that writes to the same session: a client that lost its connection resumes.
_BUSY_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one request brings: its bytes, their place if the client named it, and their number if it was announced."""

    body: AsyncIterable[bytes]
    place: ByteRange | None = None
    length: int | None = None


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What a request has to name to use a session: all three have to be right (CVE-2026-32589).

    Attributes:
        subject: the user, to whom the session belongs; "" for all who show no credentials.
    """

    repository: Repository
    subject: str
    upload: UploadId


class _Interrupted(NamedTuple):
    """A request that came to no good end: where its bytes begin, and how many it had announced."""

    start: int
    length: int


@dataclass(slots=True)
class OpenSession:
    """A session whose staged bytes are open.

    Attributes:
        record: what is on record of it.
        interrupted: what a client may be about to repeat.
        receiving: whether a request brings bytes.
        grew: whether the last one brought any.
        users: how many requests have the session, or wait for it.
        lock: held by the request that has it.
    """

    record: Upload | None = None
    _staged: Staged | None = None
    interrupted: _Interrupted | None = None
    receiving: bool = False
    grew: bool = False
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def staged(self) -> Staged:
        """Its bytes."""
        assert self._staged is not None, "the session is not open"  # noqa: S101
        return self._staged

    async def open(self, blobs: Blobs, record: Upload) -> None:
        """Read what was staged before, if that is not open, or another replica has gone on with it."""
        if self._staged is not None and self.record is not None and self.record.version != record.version:
            self.interrupted, staged, self._staged = None, self._staged, None
            await staged.suspend()
        self.record = record
        if self._staged is None:
            self._staged = await blobs.resume(record.id, record.algorithm, record.owner, record.state)

    async def save(self, uploads: Uploads) -> None:
        """Have other replicas know of the bytes, where they can go on with them.

        Raises:
            UploadBusy: one did meanwhile, and these bytes are forgotten.
        """
        state = await self.staged.save()
        if not state or self.record is None:
            return
        self.record = await uploads.save(self.record, state)
        if self.record is None:
            staged, self._staged = self.staged, None
            await staged.suspend()
            raise UploadBusy("another request has written to this upload; ask how much is there, and go on from that")

    async def suspend(self) -> None:
        """Close its bytes. If there is no space left they are lost, and the next answer says where to begin.

        What was cut off is not remembered, so its bytes go: a client that repeats the request has it right then, and so
        has one that asks how much is there.
        """
        if self._staged is not None:
            with contextlib.suppress(Unavailable):
                if self.interrupted is not None:
                    await self._staged.truncate(self.interrupted.start)
                await self._staged.suspend()

    @contextlib.asynccontextmanager
    async def adding(self, chunk: Chunk) -> AsyncIterator[Staged]:
        """Add a request's bytes, which are forgotten when they prove wrong, and kept when the request was cut off.

        Clients repeat a request that was cut off: at the same location, from its first byte. Nothing marks it as a
        repetition, but a client that goes on instead has asked before how much is there, or sends fewer bytes.
        """
        interrupted, self.interrupted = self.interrupted, None
        if interrupted is not None and chunk.place is None and chunk.length == interrupted.length:
            await self.staged.truncate(interrupted.start)
        start = self.staged.offset
        self.receiving = True
        try:
            try:
                yield self.staged
            finally:
                self.grew, self.receiving = self.staged.offset > start, False
        except (DigestMismatch, SizeInvalid):
            await self.staged.truncate(start)
            raise
        except BaseException:
            if chunk.place is None and chunk.length:
                self.interrupted = _Interrupted(start, chunk.length)
            raise


class Sessions:
    """The sessions that are open.

    Args:
        bounds: how many may be open at a time.
        expiry: after how many idle seconds one ends.
        empty_expiry: the same for one that has no bytes.
        kept_open: how many keep their files between requests.
        clock: seconds since 1970, which are kept over a restart. Nobody's session ends because a clock is set.
    """

    def __init__(
        self,
        blobs: Blobs,
        uploads: Uploads,
        bounds: UploadBounds,
        *,
        expiry: float,
        empty_expiry: float,
        kept_open: int = MOST_KEPT_OPEN,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._blobs = blobs
        self._uploads = uploads
        self._bounds = bounds
        self._expiry = expiry
        self._empty_expiry = empty_expiry
        self._kept_open = kept_open
        self._clock = clock or steady_clock()
        self._live: OrderedDict[UploadId, OpenSession] = OrderedDict()

    async def begin(self, repository: Repository, caller: Caller, algorithm: str = CANONICAL) -> SessionKey:
        """Open one. It may be that another one, which has no bytes, ends for it.

        Raises:
            TooManyRequests: too many are open.
        """
        subject = caller.identity.name
        upload = Upload(UploadId.new(), repository, subject, algorithm, self._clock(), owner_of(caller))
        ended = await self._uploads.begin(upload, self._bounds)
        if ended is not None:
            await self._discard(ended)
        self._live[upload.id] = OpenSession(upload, await self._blobs.stage(upload.id, algorithm, upload.owner))
        await self._suspend_idle()
        return SessionKey(repository, subject, upload.id)

    @contextlib.asynccontextmanager
    async def add(self, key: SessionKey, chunk: Chunk) -> AsyncIterator[Staged]:
        """The bytes of one session, to which this request adds; see `use` and `OpenSession.adding`."""
        async with self.use(key, adding=True) as live:
            used_at = live.record.used_at if live.record is not None else self._clock()
            try:
                async with live.adding(chunk) as staged:
                    yield staged
            finally:
                if self._live.get(key.upload) is live:  # otherwise it has ended
                    # Requests without bytes do not extend the life of a session.
                    at = self._clock() if live.grew else used_at
                    await self._uploads.touch(key.upload, at, empty=not live.staged.offset)
                    await live.save(self._uploads)

    @contextlib.asynccontextmanager
    async def use(self, key: SessionKey, *, adding: bool = False) -> AsyncIterator[OpenSession]:
        """One session, for this request alone. That does not extend its life.

        Raises:
            UploadUnknown: there is no such session, it is somebody else's, or it ended while this request waited.
            UploadBusy: another request has it.
        """
        upload = key.upload
        record = await self._uploads.get(upload)
        if record is None or (record.repository, record.subject) != (key.repository, key.subject):
            raise unknown(upload)
        live = self._live.setdefault(upload, OpenSession())
        self._live.move_to_end(upload)
        live.users += 1
        try:
            async with _locked(live.lock):
                record = await self._uploads.get(upload)
                if record is None:
                    self._live.pop(upload, None)
                    raise unknown(upload)
                if adding:  # a session that is about to get bytes must not end in favour of others
                    await self._uploads.touch(upload, self._clock(), empty=False)
                await live.open(self._blobs, record)
                yield live
        finally:
            live.users -= 1
            await self._suspend_idle()

    async def end(self, upload: UploadId) -> None:
        """End a session, whose bytes are a blob or forgotten."""
        self._live.pop(upload, None)
        await self._uploads.end(upload)

    async def expire(self) -> int:
        """End the sessions that were idle for too long; returns how many."""
        now = self._clock()
        for upload in [each for each, live in self._live.items() if live.receiving]:
            await self._uploads.touch(upload, now, empty=False)
        expired = await self._uploads.expire(now - self._expiry, now - self._empty_expiry)
        for record in expired:
            await self._discard(record)
        return len(expired)

    async def _discard(self, record: Upload) -> None:
        live = self._live.pop(record.id, None) or OpenSession()
        async with live.lock:
            with contextlib.suppress(UploadUnknown):  # its bytes are gone already
                await live.open(self._blobs, record)
                await live.staged.discard()

    async def close(self) -> None:
        """Put all sessions aside, so that they can go on after a restart."""
        while self._live:
            _, live = self._live.popitem()
            await live.suspend()

    async def _suspend_idle(self) -> None:
        """Close the bytes of sessions that were not used lately, when too many are open."""
        while len(self._live) > self._kept_open:
            idle = next(((key, live) for key, live in self._live.items() if not live.users), None)
            if idle is None:
                return
            upload, live = idle
            live.users += 1
            try:
                async with live.lock:
                    await live.suspend()
            finally:
                live.users -= 1
            if not live.users:  # otherwise a request has come for it meanwhile
                self._live.pop(upload, None)


def unknown(upload: UploadId) -> UploadUnknown:
    """The error for a session that does not exist, or that the client may not use."""
    return UploadUnknown(f"there is no upload session {upload}, or it has expired; begin another", {"upload": upload})


@contextlib.asynccontextmanager
async def _locked(lock: asyncio.Lock) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_BUSY_SECONDS):
            await lock.acquire()
    except TimeoutError:
        raise UploadBusy("another request is writing to this upload; continue when it has ended") from None
    try:
        yield
    finally:
        lock.release()
