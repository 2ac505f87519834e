from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import factories
from support.core import OTHER, REPO, digest, publication, tag
from trow.oci.errors import BlobUnknown, ManifestUnknown
from trow.oci.names import UploadId
from trow.registry.location import BlobLocation
from trow.registry.ports import BlobRecord

if TYPE_CHECKING:
    from support.metadata import EmbeddedMetadata
    from trow.registry.pull import Pull


async def test_manifest_by_tag_and_digest(pull: Pull, metadata: EmbeddedMetadata) -> None:
    image = factories.image()
    await metadata.publish(publication(REPO, image, "v1"))
    for reference in (tag("v1"), digest(image.digest)):
        assert (await pull.manifest(REPO, reference)).content == image.raw
        with pytest.raises(ManifestUnknown) as caught:
            await pull.manifest(OTHER, reference)
        assert caught.value.detail == {"reference": reference}


async def test_blob_in_the_database(pull: Pull, metadata: EmbeddedMetadata) -> None:
    blob = factories.blob()
    name = digest(blob.digest)
    await metadata.link_blob(REPO, name, BlobRecord(blob.size, blob.content))
    found = await pull.blob(REPO, name)
    assert (found.size, found.source) == (blob.size, blob.content)
    with pytest.raises(BlobUnknown):
        await pull.blob(OTHER, name)


async def test_blob_whose_bytes_are_lost_is_not_promised(pull: Pull, metadata: EmbeddedMetadata) -> None:
    blob = factories.blob(100_000)
    name = digest(blob.digest)
    await metadata.link_blob(REPO, name, BlobRecord(blob.size, None, BlobLocation.of(name, UploadId.new())))
    with pytest.raises(BlobUnknown) as caught:
        await pull.blob(REPO, name)
    assert caught.value.detail == {"digest": blob.digest}
