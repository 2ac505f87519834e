"""Trow publishes the image by which nodes show that they can pull (`trow.oci.pull_check`), into itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.access.identity import Identity
from trow.oci.digest import Digest
from trow.oci.media import OCI_IMAGE, OCI_INDEX
from trow.oci.names import Tag
from trow.oci.pull_check import pull_check_image
from trow.registry.events import Action, Event, Origin, Part
from trow.registry.ports import BlobRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.access.permissions import Permission
    from trow.oci.names import Repository
    from trow.registry.events import AuditLog
    from trow.registry.ports import Metadata
    from trow.registry.publish import Publish

TAG: Final = Tag.parse("1")
_DETAIL: Final = "published by Trow itself: registry.pull_check"


class _Trow:
    """The registry as an actor: the setting is its permission."""

    identity = Identity("system:trow")
    client = ""
    origin = Origin()

    async def require(self, permission: Permission, repository: Repository) -> None:
        """It may."""

    async def may(self, permission: Permission, repository: Repository) -> bool:  # noqa: ARG002 - the port's
        return True

    async def visible(self, repositories: Sequence[Repository]) -> Sequence[bool]:
        return [True for _ in repositories]

    def prefixes(self) -> Sequence[str]:
        return ("",)


async def publish_pull_check(repository: Repository, publish: Publish, metadata: Metadata, audit: AuditLog) -> None:
    """See that the tag points at the image; whatever else somebody has put there stays known by its digest.

    Raises:
        Unavailable: it cannot be stored now.
    """
    image, trow = pull_check_image(), _Trow()
    present = await metadata.tagged_manifest(repository, TAG)
    if present is not None and present.digest == image.digest:
        return
    for blob in image.blobs:
        await metadata.link_blob(repository, Digest.of(blob), BlobRecord(len(blob), blob))
    for manifest in image.manifests:
        await publish.put(repository, Digest.of(manifest), (), OCI_IMAGE, manifest, trow)
    await publish.put(repository, TAG, (), OCI_INDEX, image.index, trow)
    event = Event(
        Action.PUSH,
        actor=trow.identity,
        repository=repository,
        reference=TAG,
        digest=image.digest,
        media_type=OCI_INDEX,
        detail=_DETAIL,
        part=Part.EFFECTS,
    )
    audit.record(event)
