"""The stores in memory: twins that fast tests use, with the same contracts as the others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from trow.oci.digest import Digest
from trow.oci.errors import BlobUnknown, Unavailable
from trow.oci.page import Page
from trow.registry.ports import Redirect, StoredName, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence

    from trow.oci.names import UploadId
    from trow.oci.page import PageRequest
    from trow.registry.ports import BlobSource

Form: TypeAlias = Literal["bytes", "stream", "redirect"]
_PIECE: Final = 1024 * 1024


class MemoryBlobs:
    """`Blobs` that are gone with the process, and come to clients in one of the forms that there are."""

    def __init__(self, *, form: Form = "bytes") -> None:
        self._form = form
        self._blobs: dict[Digest, bytes] = {}
        self.quarantined: dict[Digest, bytes] = {}
        self._staged: dict[UploadId, bytearray] = {}

    async def stage(self, upload: UploadId, algorithm: str, owner: str) -> MemoryStaged:
        del algorithm, owner
        return MemoryStaged(self._blobs, self._staged, upload)

    async def resume(self, upload: UploadId, algorithm: str, owner: str) -> MemoryStaged:
        return await self.stage(upload, algorithm, owner)

    async def locate(self, digest: Digest, size: int) -> BlobSource | None:
        content = self._blobs.get(digest)
        if content is None or len(content) != size:
            return None
        match self._form:
            case "bytes":
                return content
            case "stream":
                return Stream(partial(self.read, digest))
            case "redirect":
                return Redirect(f"https://blobs.example/{digest}")

    async def read(self, digest: Digest, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        if digest not in self._blobs:
            raise BlobUnknown(f"blob {digest} is not here")
        content = self._blobs[digest][start:end]
        for place in range(0, len(content), _PIECE):
            yield content[place : place + _PIECE]

    async def lost(self, blobs: Sequence[tuple[Digest, int]]) -> Sequence[Digest]:
        return [digest for digest, size in blobs if await self.locate(digest, size) is None]

    async def names(self, page: PageRequest) -> Page[StoredName]:
        after = sorted(each for each in self._blobs if each > page.last)
        found = [StoredName(each, each) for each in after[: page.limit]]
        return Page(found, more=len(after) > page.limit)

    async def delete(self, digest: Digest) -> bool:
        return self._blobs.pop(digest, None) is not None

    async def check(self) -> None: ...

    async def recover(self, known: Callable[[Digest], Awaitable[bool]], *, crashed: bool) -> int:
        del known
        count = len(self._staged) if crashed else 0
        if crashed:
            self._staged.clear()
        return count

    async def quarantine(self, digest: Digest, content: bytes | None = None) -> None:
        if content is None and digest not in self._blobs:
            raise Unavailable(f"blob {digest} is not here")
        self.quarantined[digest] = self._blobs.pop(digest) if content is None else content


class MemoryStaged:
    """`Staged` bytes in a dictionary."""

    def __init__(self, blobs: dict[Digest, bytes], staged: dict[UploadId, bytearray], upload: UploadId) -> None:
        self._blobs = blobs
        self._staged = staged
        self._upload = upload
        self._committed: tuple[Digest, bytes] | None = None

    @property
    def _bytes(self) -> bytearray:
        return self._staged.setdefault(self._upload, bytearray())

    @property
    def offset(self) -> int:
        return len(self._staged.get(self._upload, b""))

    async def write(self, chunks: AsyncIterable[bytes]) -> None:
        async for chunk in chunks:
            self._bytes.extend(chunk)

    async def truncate(self, size: int) -> None:
        del self._bytes[size:]

    async def content(self) -> bytes:
        return bytes(self._bytes)

    async def digest(self, algorithm: str) -> Digest:
        return Digest.of(self._bytes, algorithm)

    async def commit(self, digest: Digest) -> None:
        self._committed = digest, bytes(self._bytes)
        self._blobs[digest] = self._committed[1]

    async def revoke(self) -> None:
        if self._committed is not None:
            digest, content = self._committed
            if self._blobs.get(digest) is content:  # otherwise another session has put its own there meanwhile
                del self._blobs[digest]

    async def discard(self) -> None:
        self._staged.pop(self._upload, None)

    async def suspend(self) -> None: ...
