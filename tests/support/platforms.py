"""Images that say what they run on and when they were made, as nodes and policies read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import factories
from factories import OCI_CONFIG, OCI_IMAGE, OCI_INDEX, Blob, Manifest
from support.core import digest, publication
from trow.oci.names import Repository
from trow.registry.ports import BlobRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from support.metadata import EmbeddedMetadata

MADE: Final = "2023-11-01T12:00:00Z"
AMD64: Final = {"os": "linux", "architecture": "amd64"}
ARM64: Final = {"os": "linux", "architecture": "arm64"}
# As BuildKit describes what it puts beside an image.
UNKNOWN: Final = {"architecture": "unknown", "os": "unknown"}


def config(created: str | None = MADE, **members: Any) -> Blob:
    """An image's configuration; a member that is None is left out."""
    given = {**AMD64, "created": created, "filling": factories.blob(8).content.hex(), **members}
    return Blob(factories.encode(given), OCI_CONFIG)


def image_of(configuration: Blob, **members: Any) -> Manifest:
    """An image without layers."""
    document = {"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": configuration.descriptor, "layers": [], **members}
    return Manifest(factories.encode(document), OCI_IMAGE, (configuration,))


def image(created: str | None = MADE, **members: Any) -> Manifest:
    return image_of(config(created, **members))


def index(*children: tuple[Manifest, Mapping[str, object] | None]) -> Manifest:
    """An index that says of each child what it is for."""
    described = [
        child.descriptor | ({} if platform is None else {"platform": dict(platform)}) for child, platform in children
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": described}).encode()
    return Manifest(raw, OCI_INDEX, (), tuple(child for child, _ in children))


async def store(metadata: EmbeddedMetadata, repository: str, manifest: Manifest, *tags: str) -> None:
    """Put a manifest there with all that it refers to."""
    await store_blobs(metadata, repository, manifest.blobs)
    for child in manifest.children:
        await store(metadata, repository, child)
    await metadata.publish(publication(Repository.parse(repository), manifest, *tags))


async def store_blobs(metadata: EmbeddedMetadata, repository: str, blobs: Sequence[Blob]) -> None:
    for blob in blobs:
        record = BlobRecord(blob.size, blob.content)
        await metadata.link_blob(Repository.parse(repository), digest(blob.digest), record)
