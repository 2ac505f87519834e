"""Blobs in memory: the twin that fast tests use, with the same contract as the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Sequence

    from trow.oci.names import UploadId
    from trow.registry.ports import BlobSource


class MemoryBlobs:
    """`Blobs` that are gone with the process."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}
        self._staged: dict[UploadId, bytearray] = {}

    async def stage(self, upload: UploadId, algorithm: str, owner: str) -> MemoryStaged:
        del algorithm, owner
        return MemoryStaged(self._blobs, self._staged, upload)

    async def resume(self, upload: UploadId, algorithm: str, owner: str) -> MemoryStaged:
        return await self.stage(upload, algorithm, owner)

    async def locate(self, digest: Digest, size: int) -> BlobSource | None:
        content = self._blobs.get(digest)
        return content if content is not None and len(content) == size else None

    async def lost(self, blobs: Sequence[tuple[Digest, int]]) -> Sequence[Digest]:
        return [digest for digest, size in blobs if await self.locate(digest, size) is None]


class MemoryStaged:
    """`Staged` bytes in a dictionary."""

    def __init__(self, blobs: dict[Digest, bytes], staged: dict[UploadId, bytearray], upload: UploadId) -> None:
        self._blobs = blobs
        self._staged = staged
        self._upload = upload

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
        self._blobs[digest] = bytes(self._bytes)

    async def revoke(self) -> None:
        self._blobs.pop(Digest.of(self._bytes), None)

    async def discard(self) -> None:
        self._staged.pop(self._upload, None)

    async def suspend(self) -> None:
        """Does nothing: there is no file to close."""
