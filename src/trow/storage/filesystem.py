"""Blobs as files.

    <data>/
      blobs/<algorithm>/<first two digits>/<digits>.<session>   what was committed; never changed
      uploads/<session>                                         staged bytes of an open session
      uploads/<session>@<algorithm>:<digits>                    … while they become a blob
      quarantine/<algorithm>:<digits>                           what ``trow fsck`` found to be damaged

A commit flushes the staged file, names it ``<session>@<digest>``, links it to its location among the blobs and flushes
that folder. The second name goes only when the metadata points at the blob. A crash in between leaves a file under both
names, and the next start knows which blob no client was told of, without looking through all of them. Blobs of before
locations have no ``.<session>`` at their end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import hashlib
import itertools
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from trow.lib.anchor import Anchor
from trow.lib.caches import LruCache
from trow.lib.files import FILE, FOLDER, make_file, make_folder, sync_folder
from trow.lib.reserve import Reserve
from trow.oci.digest import ALGORITHMS, Digest
from trow.oci.errors import BlobUnknown, OciError, StorageFull, Unavailable
from trow.oci.names import UploadId
from trow.oci.page import Page
from trow.registry.location import BlobLocation
from trow.registry.ports import BlobSource, LocalFile, StoredName
from trow.storage.disk import DiskThreads
from trow.storage.workers import FanOut, WorkerPool

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Iterator,
        Sequence,
    )
    from hashlib import _Hash
    from io import FileIO

    from trow.oci.page import PageRequest

# Content up to this size stays in memory and is hashed on the spot: waking two threads would take longer.
_SMALL: Final = 64 * 1024
# How often the kernel is asked to begin writing back, so that the final flush finds little left to do.
_WRITE_BACK: Final = 16 * 1024 * 1024
_READ: Final = 1024 * 1024
_MOST_CHECKED: Final = 4096
_SYNC_FILE_RANGE_WRITE: Final = 2
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Result = TypeVar("Result")


def translate(error: OSError) -> OciError:
    """What an operating system's error means to a client; names no path."""
    if error.errno in _FULL:
        return StorageFull("the registry has no space left for this content; free some or enlarge its volume")
    if error.errno == errno.ESTALE:
        return Unavailable("the registry's data was moved or replaced while it is in use; put it back, or restart Trow")
    return Unavailable(
        f"the registry's storage does not work: {os.strerror(error.errno or errno.EIO)};"
        " see its log for where, and try again"
    )


def _begin_write_back() -> Callable[[int, int, int], object]:
    """Linux's sync_file_range(2), which starts writing and does not wait; elsewhere nothing."""
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):  # pragma: no cover - other systems
        return lambda _fd, _offset, _length: None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return lambda fd, offset, length: call(fd, offset, length, _SYNC_FILE_RANGE_WRITE)


_write_back: Final = _begin_write_back()


class FilesystemBlobs:
    """The `Blobs` of the embedded default."""

    def __init__(self, directory: Path, reserve: Reserve | None = None) -> None:
        self._reserve = reserve or Reserve()
        self._blobs = directory / "blobs"
        self._uploads = directory / "uploads"
        self._quarantine = directory / "quarantine"
        self._threads: Threads | None = None
        self._anchors: list[Anchor] = []
        self._checked: LruCache[BlobLocation, bool] = LruCache(_MOST_CHECKED)

    def prepare(self) -> None:
        """Make the folders where they are missing, and start the threads that receive blobs.

        Raises:
            OSError: a folder cannot be made.
            ThreadsError: a thread cannot be started.
        """
        for folder in (self._blobs, self._uploads, self._quarantine):
            make_folder(folder)
        for algorithm in ALGORITHMS:
            make_folder(self._blobs / algorithm)
        sync_folder(self._blobs)
        sync_folder(self._blobs.parent)
        # Not that of uploads: the next start would clear it anyway.
        self._anchors = self._anchors or [Anchor(self._blobs)]
        self._threads = self._threads or Threads()

    async def stage(self, upload: UploadId, algorithm: str, owner: str) -> FileStaged:
        assert self._threads is not None, "prepare() comes before the first upload"  # noqa: S101
        return FileStaged(self, self._uploads / upload, algorithm, self._threads, owner)

    async def resume(self, upload: UploadId, algorithm: str, owner: str, state: str = "") -> FileStaged:
        del state
        staged = await self.stage(upload, algorithm, owner)
        await staged.look()
        return staged

    async def locate(self, location: BlobLocation, size: int) -> BlobSource | None:
        """Checks the size of the file: a short file must not be sent as if it were whole.

        What was looked at lately the kernel has in memory, so that a thread would take longer.
        """
        path = self.path(location)
        if self._checked.get(location):
            found = self._still_complete(path, size)
        else:
            found = await asyncio.to_thread(self._is_complete, path, size)
        if not found:
            self._checked.pop(location)
            return None
        self._checked.put(location, True)
        return LocalFile(path, size)

    async def read(self, location: BlobLocation, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        file = await asyncio.to_thread(self._open, location, start)
        left = sys.maxsize if end is None else end - start
        with contextlib.closing(file):
            while left > 0:
                with _translated():
                    piece = await asyncio.to_thread(file.read, min(_READ, left))
                if not piece:
                    return
                left -= len(piece)
                yield piece

    def _open(self, location: BlobLocation, start: int) -> FileIO:
        with _translated():
            try:
                file = self.path(location).open("rb", buffering=0)
            except FileNotFoundError:
                self.require_in_place()
                lost = f"the bytes at {location} are lost; push the blob again"
                raise BlobUnknown(lost, {"location": location}) from None
            file.seek(start)
            return file

    async def lost(self, blobs: Sequence[tuple[BlobLocation, int]]) -> Collection[BlobLocation]:
        def look() -> Collection[BlobLocation]:
            return {location for location, size in blobs if not self._is_complete(self.path(location), size)}

        return await asyncio.to_thread(look)

    def _still_complete(self, path: Path, size: int) -> bool:
        """The same for a blob that was looked at lately: no disk is needed, so the event loop may ask."""
        return self._is_complete(path, size)

    def _is_complete(self, path: Path, size: int) -> bool:
        """Whether a blob is there and has its size. Raises OciError when that cannot be told."""
        try:
            found = path.stat()
        except FileNotFoundError:
            with _translated():
                self.require_in_place()
            return False
        except OSError as error:
            raise translate(error) from error
        return found.st_size == size and stat.S_ISREG(found.st_mode)

    def displaced(self) -> Sequence[Path]:
        """The folders that are in use and no longer where they belong."""
        return [anchor.path for anchor in self._anchors if not anchor.holds()]

    def require_in_place(self) -> None:
        """See to it that what is written now is there after the next start. Raises OSError (ESTALE) when not."""
        if self.displaced():
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def path(self, location: BlobLocation) -> Path:
        """Where the blob is, or would be."""
        return self._blobs / location

    def publish(self, staged: Path, location: BlobLocation, digest: Digest) -> Path:
        """Link a staged file to its location among the blobs, durably; returns the staged file's new name.

        Raises:
            OSError: the staged file has its old name alone.
        """
        self.require_in_place()
        place, marked = self.path(location), staged.with_name(f"{staged.name}@{digest}")
        if not place.parent.exists():
            place.parent.mkdir(mode=FOLDER, exist_ok=True)
            sync_folder(place.parent.parent)
        staged.rename(marked)
        try:
            os.link(marked, place)
            sync_folder(place.parent)
            self.require_in_place()
        except OSError:
            self.withdraw(marked, location)
            raise
        return marked

    def withdraw(self, marked: Path, location: BlobLocation) -> Path:
        """Undo `publish`; returns the staged file's old name."""
        staged, place = _unmarked(marked), self.path(location)
        with contextlib.suppress(FileNotFoundError):
            if place.samefile(marked):
                place.unlink()
        with contextlib.suppress(OSError):
            marked.rename(staged)
        return staged

    async def recover(self, known: Callable[[BlobLocation], Awaitable[bool]], *, crashed: bool) -> int:
        """Remove interrupted commits, with blobs that no client was told of; after a crash open sessions too.

        Only while nothing else uses the folder: at start. Returns how many files were removed.
        """
        count = 0
        for path in self._uploads.iterdir():
            upload, _, digest = path.name.partition("@")
            if not digest and not crashed:
                continue
            if digest and path.stat().st_nlink > 1:
                name = Digest.parse(digest)
                await self._forget_unknown((BlobLocation.of(name, UploadId(upload)), BlobLocation.former(name)), known)
            path.unlink(missing_ok=True)
            count += 1
        return count

    async def _forget_unknown(
        self, locations: Sequence[BlobLocation], known: Callable[[BlobLocation], Awaitable[bool]]
    ) -> None:
        for location in locations:
            if self.path(location).exists() and not await known(location):
                self._delete(location)

    async def names(self, page: PageRequest) -> Page[StoredName]:
        last = tuple(page.last.split("/")) if page.last else ()

        def look() -> Page[StoredName]:
            found = [*itertools.islice(self._files(self._blobs, last), page.limit + 1)]
            return Page(found[: page.limit], more=len(found) > page.limit)

        return await asyncio.to_thread(look)

    def _files(self, folder: Path, last: tuple[str, ...]) -> Iterator[StoredName]:
        """The files below a folder that come after ``last``, which is a path as its parts."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield StoredName(str(folder.relative_to(self._blobs)), None, os.strerror(error.errno or errno.EIO))
            return
        for entry in entries:
            path, begun = Path(entry.path), entry.name == last[0] if last else False
            if (last and entry.name < last[0]) or (begun and len(last) == 1):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._files(path, last[1:] if begun else ())
            elif not entry.is_dir():
                yield self._stored(str(path.relative_to(self._blobs)))

    def _stored(self, name: str) -> StoredName:
        with contextlib.suppress(ValueError):
            return StoredName(name, BlobLocation.parse(name))
        return StoredName(name, None)

    async def delete(self, location: BlobLocation) -> bool:
        self._checked.pop(location)
        return await asyncio.to_thread(self._delete, location)

    def _delete(self, location: BlobLocation) -> bool:
        with _translated():
            try:
                self.path(location).unlink()
            except FileNotFoundError:
                return False
        return True

    async def quarantine(self, digest: Digest, damaged: BlobLocation | bytes) -> None:
        def move() -> None:
            place = self._quarantine / digest
            make_folder(self._quarantine)
            if isinstance(damaged, BlobLocation):
                self.path(damaged).replace(place)
            else:
                make_file(place)
                place.write_bytes(damaged)

        with _translated():
            await asyncio.to_thread(move)

    async def check(self) -> None:
        def write_small_file() -> None:
            probe = self._uploads / ".readiness"
            self.require_in_place()
            self.require_space()
            try:
                probe.write_bytes(b"ready")
            finally:
                probe.unlink(missing_ok=True)

        with _translated():
            await asyncio.to_thread(write_small_file)

    def require_space(self) -> None:
        """What takes space has to leave the reserve to what frees some; raises OSError when that is in use."""
        if self._reserve.missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def space(self) -> tuple[int, int]:
        """Bytes used and bytes free on the volume."""
        volume = os.statvfs(self._blobs)
        return (volume.f_blocks - volume.f_bfree) * volume.f_frsize, volume.f_bavail * volume.f_frsize

    def close(self) -> None:
        """End the threads, and let go of the folders."""
        while self._anchors:
            self._anchors.pop().close()
        if self._threads is not None:
            self._threads.close()
            self._threads = None


class Threads:
    """The threads of all uploads."""

    def __init__(self) -> None:
        self.workers: Final = WorkerPool()
        try:
            self.disk: Final = DiskThreads()
        except BaseException:
            self.workers.close()
            raise

    def close(self) -> None:
        """End them."""
        self.workers.close()
        self.disk.close()


class FileStaged:
    """`Staged` bytes: in memory while they are few, in a file from then on and between requests.

    Nothing here touches a file on the event loop, which a busy disk would stop.
    """

    def __init__(self, blobs: FilesystemBlobs, path: Path, algorithm: str, threads: Threads, owner: str) -> None:
        self._blobs = blobs
        self._path = path
        self._threads = threads
        self._owner = owner
        self._fd: int | None = None
        self._buffer = bytearray()
        self._algorithm = algorithm
        self._hasher: _Hash | None = hashlib.new(algorithm)
        self._hashed = 0
        self._digests: dict[str, Digest] = {}
        self._written = 0
        self._on_disk = False
        self._synced = 0
        self._committed: BlobLocation | None = None

    async def look(self) -> None:
        """Take over what is in the file already."""
        self._written = await self._run_now(self._stored_size)

    async def _run(self, work: Callable[[], Result]) -> Result:
        with _translated(staged=True):
            return await self._threads.disk.run(self._owner, work)

    async def _run_now(self, work: Callable[[], Result]) -> Result:
        """The same for what gives something back."""
        with _translated(staged=True):
            return await self._threads.disk.run_now(work)

    @property
    def offset(self) -> int:
        return self._written + len(self._buffer)

    async def write(self, chunks: AsyncIterable[bytes]) -> None:
        pieces = aiter(chunks)
        self._digests.clear()
        try:
            async for chunk in pieces:
                works = [self._append]
                if self._hasher is not None and self._hashed == self.offset:
                    works.append(self._hash)
                if self.offset + len(chunk) <= _SMALL:
                    if len(works) > 1:
                        self._hash(chunk)
                    self._buffer += chunk
                    continue
                rest = _chained(chunk, pieces)
                del chunk  # it is large, and the rest may take hours
                await FanOut(works, self._threads.workers, self._owner).run(rest)
        except OSError as error:
            with contextlib.suppress(OciError):
                await self._run_now(self._resync)
            raise translate(error) from error
        finally:
            if self._hashed != self.offset:
                # What failed was hashed and not written, and other bytes may come in its place.
                self._hasher = None

    def _hash(self, chunk: bytes) -> None:
        if self._hasher is not None:
            self._hasher.update(chunk)
            self._hashed += len(chunk)

    def _append(self, chunk: bytes) -> None:
        self._blobs.require_space()
        self._spill()
        view = memoryview(chunk)
        fd = self._open()
        while view:
            count = os.write(fd, view)
            self._written += count
            view = view[count:]
        if self._written - self._synced >= _WRITE_BACK:
            _write_back(fd, self._synced, self._written - self._synced)
            self._synced = self._written

    def _spill(self) -> None:
        buffer, self._buffer = bytes(self._buffer), bytearray()
        if buffer:
            self._append(buffer)

    def _open(self) -> int:
        if self._fd is None:
            self._blobs.require_in_place()
            self._on_disk = True
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE)
        return self._fd

    def _stored_size(self) -> int:
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return 0
        self._on_disk = True
        return size

    def _resync(self) -> None:
        # After a failed write hash and file may have parted; the file is the truth and is read again.
        self._hasher = None
        self._digests.clear()
        with contextlib.suppress(OSError):
            self._written = self._stored_size()

    async def truncate(self, size: int) -> None:
        if size >= self.offset:
            return
        self._digests.clear()
        if size < self._written:
            self._buffer.clear()
            await self._run_now(lambda: self._shorten(size))
        else:
            del self._buffer[size - self._written :]
        # What stays in a file is read again if need be: the state of a hash does not go back.
        self._hasher = hashlib.new(self._algorithm, self._buffer) if not self._written else None
        self._hashed = self.offset

    def _shorten(self, size: int) -> None:
        os.ftruncate(self._open(), size)
        self._written, self._synced = size, min(self._synced, size)

    async def content(self) -> bytes:
        if not self._written:
            return bytes(self._buffer)
        return await self._run(lambda: self._read() + bytes(self._buffer))

    def _read(self) -> bytes:
        self._blobs.require_in_place()
        return self._path.read_bytes()

    @property
    def written(self) -> int:
        """How many bytes are in the file."""
        return self._written

    async def piece(self, start: int, end: int) -> bytes:
        """Some of the staged bytes."""
        if not self._written:
            return bytes(self._buffer[start:end])

        def read() -> bytes:
            self._blobs.require_in_place()
            self._spill()
            with self._path.open("rb", buffering=0) as file:
                return os.pread(file.fileno(), end - start, start)

        return await self._run(read)

    async def digest(self, algorithm: str) -> Digest:
        """Reads the file where the bytes were not hashed on their way in."""
        if self._hasher is not None and self._hasher.name == algorithm and self._hashed == self.offset:
            return Digest.from_hash(self._hasher)
        if not self._written:
            return Digest.of(self._buffer, algorithm)
        # Kept, for a request costs nothing that names a wrong digest once more.
        if algorithm not in self._digests:
            self._digests[algorithm] = await self._run(lambda: self._read_digest(algorithm))
        return self._digests[algorithm]

    def _read_digest(self, algorithm: str) -> Digest:
        self._blobs.require_in_place()
        with self._path.open("rb", buffering=0) as file:
            hasher = hashlib.file_digest(file, algorithm)
        hasher.update(self._buffer)
        return Digest.from_hash(hasher)

    async def commit(self, digest: Digest) -> BlobLocation:
        return await self._run(lambda: self._commit(digest))

    def _commit(self, digest: Digest) -> BlobLocation:
        self._blobs.require_in_place()
        self._spill()
        try:
            fd = self._open()
            os.fsync(fd)
            if os.fstat(fd).st_size != self._written:  # it was exchanged, or another program has written to it
                raise OSError(errno.EIO, os.strerror(errno.EIO))  # noqa: TRY301 - what follows is for this, too
        except OSError:
            # The kernel has dropped what it could not write, and a second flush would not say so.
            self._close()
            self._path.unlink(missing_ok=True)
            self._resync()
            raise
        self._close()
        try:
            location = BlobLocation.of(digest, UploadId(self._path.name))
            self._path = self._blobs.publish(self._path, location, digest)
        except OSError:
            self._resync()
            raise
        self._committed = location
        return location

    async def revoke(self) -> None:
        if self._committed is not None:
            committed, self._committed = self._committed, None
            self._path = await self._run_now(lambda: self._blobs.withdraw(self._path, committed))

    async def discard(self) -> None:
        """Removes the second name after `commit`: it is not needed any more."""
        self._buffer.clear()
        path, self._path = self._path, _unmarked(self._path)
        self._written, self._hasher = 0, None
        self._digests.clear()
        if self._on_disk:
            await self._run_now(lambda: self._remove(path))

    async def leave(self) -> None:
        if self._on_disk:
            self._on_disk = False  # so that the second name stays, which `recover` asks about
            await self._run_now(self._close)
        await self.discard()

    def _remove(self, path: Path) -> None:
        self._close()
        path.unlink(missing_ok=True)

    async def save(self) -> str:
        return ""

    async def suspend(self) -> None:
        if self._buffer or self._fd is not None:
            await self._run_now(self._spill_and_close)

    def _spill_and_close(self) -> None:
        try:
            self._spill()
        except OSError:
            self._resync()
            raise
        finally:
            self._close()

    def _close(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)


@contextlib.contextmanager
def _translated(*, staged: bool = False) -> Iterator[None]:
    """Translate errors of the operating system for clients; ``staged`` says that it is about the bytes of an upload."""
    try:
        yield
    except OSError as error:
        if staged and isinstance(error, FileNotFoundError):
            raise BlobUnknown("the bytes of this upload are gone; begin another") from error
        raise translate(error) from error


def _unmarked(path: Path) -> Path:
    """The name of a staged file before it was published."""
    return path.with_name(path.name.partition("@")[0])


async def _chained(first: bytes, rest: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    yield first
    del first
    async for chunk in rest:
        yield chunk
