"""Blobs as objects of a bucket.

    <prefix>blobs/<random>              what an upload has brought
    <prefix>tails/<upload>/<random>     the last bytes of an upload, where another replica may get the next ones
    <prefix>quarantine/<digest>         what ``trow fsck`` found to be damaged

Bytes come through a file in the data directory, whatever the speed of their sender, and from there in parts to the
bucket while they arrive. So memory is bounded by the parts that are on their way, and no slow client holds any. The
object is at its location from the beginning: nothing is copied or renamed in the end.

Before the first part goes out, the location is reserved in the metadata. What is never linked is found there and
removed, whatever became of the process, and whatever the bucket can list.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from trow.lib.caches import TtlCache
from trow.lib.shares import Bounds, Shares
from trow.oci.digest import Digest
from trow.oci.errors import BlobUnknown, Unavailable, UploadUnknown
from trow.oci.names import UploadId
from trow.oci.page import Page
from trow.registry.location import BlobLocation
from trow.registry.ports import Redirect, StoredName, Stream
from trow.storage.bucket import BLOBS, Bucket, BucketSettings, UploadPart

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Sequence

    from trow.oci.page import PageRequest
    from trow.registry.ports import BlobSource
    from trow.storage.filesystem import FileStaged, FilesystemBlobs

__all__ = ["Bucket", "BucketSettings", "S3Blobs", "S3Staged"]

MIB: Final = 1024 * 1024
PART: Final = 8 * MIB
# S3 takes 10 000 parts; larger ones come when there are many, so that the largest blob has 850 GB.
_PART_SIZES: Final = ((2_000, PART), (4_000, 4 * PART), (10_000, 16 * PART))
# Parts of one upload on their way, and of all.
_AT_ONCE: Final = 3
_PLACES: Final = Bounds(total=8, each=6, waiting=65_536, waiting_each=65_536, patience=120.0)
_LOOKS_AT_ONCE: Final = 16
# What was seen lately is believed for so long, because each look is a request.
_SEEN_SECONDS: Final = 60.0
_MOST_SEEN: Final = 10_000
_TAILS: Final = "tails/"
# Last bytes of an upload that need no object of their own.
_FEW: Final = 64 * 1024
_RESERVED_AGAIN_SECONDS: Final = 600.0


class S3Blobs:
    """The `Blobs` of many replicas.

    Args:
        bucket: where the objects are.
        spool: files of the uploads that are under way.
        reserve: notes in the metadata that bytes come to a location; False when it is too late for that.
        shared: whether other replicas go on with uploads that were begun here.
        redirect_seconds: for how long clients may get a blob from the bucket themselves; 0 sends it through here.
    """

    def __init__(
        self,
        bucket: Bucket,
        spool: FilesystemBlobs,
        reserve: Callable[[BlobLocation], Awaitable[bool]],
        *,
        shared: bool = False,
        redirect_seconds: int = 0,
    ) -> None:
        self.shared: Final = shared
        self.bucket: Final = bucket
        self.places: Final = Shares(_PLACES, "parts of uploads")
        self._spool = spool
        self._reserve = reserve
        self._redirect_seconds = redirect_seconds
        self._seen: TtlCache[BlobLocation, int] = TtlCache(_MOST_SEEN)
        self._addresses: TtlCache[BlobLocation, str] = TtlCache(_MOST_SEEN)
        self._looking = asyncio.Semaphore(_LOOKS_AT_ONCE)

    async def stage(self, upload: UploadId, algorithm: str, owner: str) -> S3Staged:
        return S3Staged(self, upload, await self._spool.stage(upload, algorithm, owner), owner)

    async def resume(self, upload: UploadId, algorithm: str, owner: str, state: str = "") -> S3Staged:
        staged = S3Staged(self, upload, await self._spool.resume(upload, algorithm, owner), owner)
        if state:
            await staged.restore(msgspec.json.decode(state, type=_State))
        return staged

    async def locate(self, location: BlobLocation, size: int) -> BlobSource | None:
        """What was seen in the last minute is not looked at again."""
        if await self._size(location) != size:
            return None
        if not self._redirect_seconds:
            return Stream(partial(self.read, location))
        now = time.monotonic()
        address = self._addresses.get(location, now)
        if address is None:
            address = await self.bucket.presigned(BLOBS + location, self._redirect_seconds)
            self._addresses.put(location, address, now, now + self._redirect_seconds / 2)
        return Redirect(address)

    async def _size(self, location: BlobLocation) -> int | None:
        now = time.monotonic()
        found = self._seen.get(location, now)
        if found is None:
            async with self._looking:
                found = await self.bucket.size(BLOBS + location)
            if found is not None:
                self._seen.put(location, found, now, now + _SEEN_SECONDS)
        return found

    def read(self, location: BlobLocation, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        return self.bucket.read(BLOBS + location, start, end)

    async def lost(self, blobs: Sequence[tuple[BlobLocation, int]]) -> Collection[BlobLocation]:
        sizes = await asyncio.gather(*(self._size(location) for location, _ in blobs))
        return {location for (location, size), found in zip(blobs, sizes, strict=True) if found != size}

    async def names(self, page: PageRequest) -> Page[StoredName]:
        found = await self.bucket.list(BLOBS, page.last, min(page.limit, 999) + 1)
        stored = [_stored(name) for name in found[: page.limit]]
        return Page(stored, more=len(found) > len(stored))

    async def delete(self, location: BlobLocation) -> bool:
        self._seen.pop(location)
        there = await self.bucket.size(BLOBS + location) is not None
        await self.bucket.delete(BLOBS + location)
        return there

    async def remove_tails(self, upload: UploadId) -> None:
        """Remove what was kept of an upload for other replicas."""
        while self.shared and (names := await self.bucket.list(f"{_TAILS}{upload}/", "", 1000)):
            for name in names:
                await self.bucket.remove(f"{_TAILS}{upload}/{name}")

    async def quarantine(self, digest: Digest, damaged: BlobLocation | bytes) -> None:
        if not isinstance(damaged, BlobLocation):
            await self.bucket.put(f"quarantine/{digest}", damaged)
            return
        self._seen.pop(damaged)
        try:
            await self.bucket.move(BLOBS + damaged, f"quarantine/{digest}")
        except BlobUnknown as error:
            raise Unavailable(str(error)) from error

    async def check(self) -> None:
        """The spool has to take bytes, too."""
        await self._spool.check()
        await self.bucket.check()

    async def recover(self, known: Callable[[BlobLocation], Awaitable[bool]], *, crashed: bool) -> int:
        return await self._spool.recover(known, crashed=crashed)

    async def reserve(self, location: BlobLocation) -> None:
        """Note that bytes come there. Raises UploadUnknown: it is too late for that."""
        if not await self._reserve(location):
            raise UploadUnknown("the upload took too long, or another request has finished it; begin another")


def _stored(name: str) -> StoredName:
    with contextlib.suppress(ValueError):
        return StoredName(name, BlobLocation.parse(name))
    return StoredName(name, None)


class _State(msgspec.Struct, frozen=True):
    """What another replica needs to go on.

    Attributes:
        location: where the parts are, "" where there are none.
        multipart: the multipart upload, None where there is none.
        sent: how many bytes are in its parts.
        size: how many there are with the last ones.
        tail: these, where they are few.
        tail_object: the name of the object that has them otherwise.
    """

    location: str
    multipart: str | None
    sent: int
    size: int
    tail: bytes | None = None
    tail_object: str = ""


class S3Staged:
    """`Staged` bytes in a file, and in part in the bucket already.

    Those that another replica has sent are in the bucket alone, where nobody can read them before the upload is
    complete. The file has those behind them.
    """

    def __init__(self, store: S3Blobs, upload: UploadId, local: FileStaged, owner: str) -> None:
        self._store = store
        self._upload = upload
        self._location: BlobLocation | None = None
        self._local = local
        self._owner = owner
        self._multipart: str | None = None
        self._parts: list[UploadPart] = []
        self._sending: deque[asyncio.Task[UploadPart]] = deque()
        self._begun = 0
        self._base = 0  # how many bytes are in the bucket alone
        self._sealed = False  # whether all are one object already
        self._sure = True  # whether that is sure to have these bytes
        self._tails: list[str] = []  # objects with the last ones, of which the latest is in use
        self._reserved_at: float | None = None
        self._committed = False
        self._spent = False

    @property
    def offset(self) -> int:
        return self._base + self._local.offset

    async def restore(self, state: _State) -> None:
        """Take over what another replica has saved. Raises UploadUnknown: it is gone."""
        await self._local.truncate(0)
        try:
            if state.multipart is not None:
                self._location = BlobLocation.parse(state.location)
                found = await self._store.bucket.parts(BLOBS + self._location, state.multipart)
                self._parts = [each for each in found if each.end <= state.sent]
            self._multipart, self._base = state.multipart, self._parts[-1].end if self._parts else 0
            self._begun = self._base
            await self._local.write(self._saved_tail(state))
        except BlobUnknown:
            raise UploadUnknown("the bytes of this upload are gone; begin another") from None
        if self.offset != state.size:
            raise UploadUnknown("some bytes of this upload are gone; begin another")

    async def _saved_tail(self, state: _State) -> AsyncIterator[bytes]:
        if state.tail is not None:
            yield state.tail
        elif state.tail_object:
            self._tails.append(state.tail_object)
            async for piece in self._store.bucket.read(self._tail_key(state.tail_object), 0, None):
                yield piece

    def _tail_key(self, name: str) -> str:
        return f"{_TAILS}{self._upload}/{name}"

    async def save(self) -> str:
        if not self._store.shared or self._sealed:
            return ""
        tail = await self._piece(self._begun, self.offset)
        place = (str(self._location or ""), self._multipart, self._begun, self.offset)
        state = _State(*place, tail)
        if len(tail) > _FEW:
            # A name of its own: another replica may be saving, too, and only one state is going to be stored.
            name = secrets.token_hex(8)
            await self._store.bucket.put(self._tail_key(name), tail)
            await self._drop_tails(self._tails[:-1])
            self._tails.append(name)
            state = _State(*place, None, name)
        return msgspec.json.encode(state).decode()

    async def _piece(self, start: int, end: int) -> bytes:
        return await self._local.piece(start - self._base, end - self._base)

    async def write(self, chunks: AsyncIterable[bytes]) -> None:
        if self._spent or self._sealed:
            raise UploadUnknown("this upload has brought a blob already; begin another")
        try:
            await self._local.write(self._sent(chunks))
        finally:
            await self._settle()

    async def _sent(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Pass the chunks on, and send each part that is in the file."""
        async for chunk in chunks:
            yield chunk
            del chunk
            while self._base + self._local.written - self._begun >= self._part_size():
                await self._begin_part(self._part_size())

    def _part_size(self) -> int:
        number = len(self._parts) + len(self._sending)
        return next(size for below, size in _PART_SIZES if number < below)

    async def _begin_part(self, size: int) -> None:
        location = await self._reserve()
        if self._multipart is None:
            self._multipart = await self._store.bucket.begin(BLOBS + location)
        if len(self._sending) >= _AT_ONCE:
            await self._take_one()
        number, start = len(self._parts) + len(self._sending) + 1, self._begun
        self._begun = start + size
        sending = self._send(BLOBS + location, self._multipart, number, start, start + size)
        self._sending.append(asyncio.create_task(sending))

    async def _send(self, key: str, multipart: str, number: int, start: int, end: int) -> UploadPart:
        async with self._store.places.hold(self._owner):
            body = await self._piece(start, end)
            return UploadPart(number, await self._store.bucket.part(key, multipart, number, body), end)

    async def _take_one(self) -> None:
        """Wait for the part that was begun first. Raises what its sending has raised; it is sent again later."""
        task = self._sending[0]
        await asyncio.wait([task])
        part = task.result()
        self._sending.popleft()
        self._parts.append(part)

    async def _settle(self) -> None:
        """Wait for the parts that are on their way. One that failed is sent again, with those behind it."""
        waiting = [*self._sending]
        try:
            if waiting:
                await asyncio.wait(waiting)
        except asyncio.CancelledError:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            raise
        finally:
            self._keep()

    def _keep(self) -> None:
        failed = False
        for task in self._sending:
            failed = failed or not task.done() or task.cancelled() or task.exception() is not None
            if not failed:
                self._parts.append(task.result())
            elif task.done() and not task.cancelled():
                task.exception()  # which is told of when the bytes are sent again
        self._sending.clear()
        self._drop_behind(self.offset)

    def _drop_behind(self, size: int) -> None:
        while self._parts and self._parts[-1].end > size:
            self._parts.pop()
        self._begun = self._parts[-1].end if self._parts else 0

    async def _reserve(self) -> BlobLocation:
        """A location that nobody else ever has, reserved; again now and then, because an upload may take days."""
        now = time.monotonic()
        if self._location is None:
            self._location, self._reserved_at = BlobLocation.of_upload(UploadId.new()), None
        if self._reserved_at is None or now - self._reserved_at > _RESERVED_AGAIN_SECONDS:
            await self._store.reserve(self._location)
            self._reserved_at = now
        return self._location

    async def truncate(self, size: int) -> None:
        """Of what is in the bucket alone, whole parts go: `offset` tells where the client has to go on."""
        if self._sealed:
            self._spent = self._spent or size < self.offset  # what is one object already is never written to again
        elif size < self._base:
            await self._local.truncate(0)
            self._drop_behind(size)
            self._base = self._begun
        else:
            await self._local.truncate(size - self._base)
            self._drop_behind(self.offset)

    async def content(self) -> bytes:
        return await self._local.content()

    async def digest(self, algorithm: str) -> Digest:
        """Where others have received some of the bytes, they are read once all are one object."""
        if not self._base:
            return await self._local.digest(algorithm)
        if not self._sealed:
            await self._finish(self.offset)
        return await self._read_digest(algorithm)

    async def _read_digest(self, algorithm: str) -> Digest:
        hasher = hashlib.new(algorithm)
        async for piece in self._store.bucket.read(BLOBS + await self._reserve(), 0, None):
            await asyncio.to_thread(hasher.update, piece)
        return Digest.from_hash(hasher)

    async def commit(self, digest: Digest) -> BlobLocation:
        self._reserved_at = None  # the grace begins now
        location, size = await self._reserve(), self.offset
        if self._multipart is None and size <= PART and not self._sealed:
            async with self._store.places.hold(self._owner):
                await self._store.bucket.put(BLOBS + location, await self._piece(0, size))
        elif not self._sealed:
            await self._finish(size)
        if not self._sure and await self._read_digest(digest.algorithm) != digest:
            self._spent = True
            raise UploadUnknown("another request has finished this upload with other bytes; begin another")
        with contextlib.suppress(Unavailable):
            await self._store.remove_tails(self._upload)
        self._sealed = self._committed = True
        return location

    async def _finish(self, size: int) -> None:
        """Make one object of all parts."""
        try:
            while self._begun < size:
                await self._begin_part(min(self._part_size(), size - self._begun))
            while self._sending:
                await self._take_one()
        except BaseException:
            await self._settle()
            raise
        assert self._multipart is not None  # noqa: S101 - there are parts
        key = BLOBS + await self._reserve()
        self._sure = await self._store.bucket.complete(key, self._multipart, self._parts)
        self._sealed = True

    async def revoke(self) -> None:
        """Another commit goes to another location. What is here is removed when its reservation has ended."""
        self._committed = False
        if not self._base:
            self._forget()

    def _forget(self) -> None:
        """Begin again, with the bytes that are in the file."""
        self._location, self._multipart, self._reserved_at = None, None, None
        self._sealed, self._sure, self._begun, self._base = False, True, 0, 0
        self._parts.clear()

    async def _drop_tails(self, names: Sequence[str]) -> None:
        with contextlib.suppress(Unavailable):
            for name in names:
                await self._store.bucket.remove(self._tail_key(name))
                self._tails.remove(name)

    async def discard(self) -> None:
        """What is at the location is not touched: who knows who has finished it. It goes when nobody has linked it."""
        self._spent = self._spent or self._committed
        with contextlib.suppress(Unavailable):
            if not self._sealed and self._location is not None and self._multipart is not None:
                await self._store.bucket.abort(BLOBS + self._location, self._multipart)
            await self._store.remove_tails(self._upload)
        self._forget()
        await self._local.discard()

    async def leave(self) -> None:
        await self.discard()  # the reservation tells of the blob

    async def suspend(self) -> None:
        await self._local.suspend()
