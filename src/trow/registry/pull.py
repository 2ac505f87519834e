"""``docker pull``: from a name to bytes. Two steps each time: does this repository have it, and where are its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trow.oci.digest import Digest
from trow.oci.errors import blob_unknown, manifest_unknown
from trow.registry.presence import locate

if TYPE_CHECKING:
    from trow.oci.names import Reference, Repository
    from trow.registry.location import BlobLocation
    from trow.registry.ports import Blobs, BlobSource, ManifestRecord, Metadata


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that may be read: ``size`` bytes at ``source``."""

    digest: Digest
    size: int
    source: BlobSource
    location: BlobLocation | None = None


class Pull:
    """Reads manifests and blobs."""

    def __init__(self, blobs: Blobs, metadata: Metadata) -> None:
        self._blobs = blobs
        self._metadata = metadata

    async def manifest(self, repository: Repository, reference: Reference) -> ManifestRecord:
        """The manifest that a tag or digest names.

        Raises:
            ManifestUnknown: this repository has none.
        """
        if isinstance(reference, Digest):
            record = await self._metadata.manifest(repository, reference)
        else:
            record = await self._metadata.tagged_manifest(repository, reference)
        if record is None:
            raise manifest_unknown(repository, reference)
        return record

    async def blob(self, repository: Repository, digest: Digest) -> Blob:
        """The blob, if this repository links it: knowing a digest gives no right to read it (CVE-2024-39897).

        Raises:
            BlobUnknown: this repository has none, or its bytes are lost.
        """
        record = await self._metadata.blob(repository, digest)
        if record is None:
            raise blob_unknown(repository, digest)
        source = await locate(self._blobs, record)
        if source is None:
            raise blob_unknown(repository, digest)
        return Blob(digest, record.size, source, record.location)

    async def content(self, blob: Blob) -> bytes:
        """All bytes of a blob, which is a small one.

        Raises:
            BlobUnknown: its bytes are lost.
        """
        if isinstance(blob.source, bytes):
            return blob.source
        assert blob.location is not None  # noqa: S101 - what has no content here is in the store
        return b"".join([piece async for piece in self._blobs.read(blob.location, 0, blob.size)])
