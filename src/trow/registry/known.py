"""What this registry knows of an image that somebody wants to run: nothing is fetched from anywhere else."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from trow.oci import manifest as manifests
from trow.oci import media
from trow.oci.errors import BlobUnknown, ManifestUnknown
from trow.policy.decide import Facts
from trow.registry.ports import LocalFile

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trow.oci.names import Repository
    from trow.policy.images import ImageReference
    from trow.registry.ports import BlobSource, ManifestRecord
    from trow.registry.pull import Pull

_ABSENT: Final = Facts(exists=False)
# A configuration has a line for every layer and every variable; what is larger is none.
_LARGEST_CONFIGURATION: Final = 4 * 1024 * 1024
# Platforms of one index that are looked at.
_MOST_PLATFORMS: Final = 64


class _Configuration(msgspec.Struct, frozen=True):
    """The members of an image's configuration that policies ask for (image-spec, config.md)."""

    created: str | None = None
    os: str = ""
    architecture: str = ""
    variant: str = ""

    @property
    def platform(self) -> str:
        """Such as ``linux/arm/v7``; "" for what is no image, such as an attestation beside one."""
        if self.os in ("", "unknown"):
            return ""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def created_at(self) -> float | None:
        """Seconds of Unix time."""
        try:
            return datetime.fromisoformat(self.created).timestamp() if self.created else None
        except (ValueError, OverflowError):
            return None


class LocalImages:
    """Looks images up.

    Args:
        registries: the names of this registry, as images have them.
    """

    def __init__(self, pull: Pull, registries: Collection[str]) -> None:
        self._pull = pull
        self._registries = frozenset(registries)

    async def facts(self, image: ImageReference) -> Facts:
        """What is known of an image; of another registry's image, that it is not here.

        Raises:
            Unavailable: the database or the storage does not answer.
        """
        reference = image.digest or image.tag
        if image.registry not in self._registries or reference is None:
            return _ABSENT
        try:
            record = await self._pull.manifest(image.repository, reference)
        except ManifestUnknown:
            return _ABSENT
        found = await self._configurations(image.repository, record)
        # The oldest of its platforms says how old the image is; if one does not say, nobody knows.
        dates = [each.created_at for each in found]
        known = [date for date in dates if date is not None]
        created = min(known) if known and len(known) == len(dates) else None
        return Facts(
            exists=True, digest=record.digest, created=created, platforms=tuple(each.platform for each in found)
        )

    async def _configurations(self, repository: Repository, record: ManifestRecord) -> Sequence[_Configuration]:
        """The configuration of each platform that is here."""
        if record.media_type not in media.INDEXES:
            found = [await self._configuration(repository, record)]
        else:
            children = manifests.parse(record.content, record.media_type).children[:_MOST_PLATFORMS]
            found = []
            for child in children:
                try:
                    image = await self._pull.manifest(repository, child.digest)
                except ManifestUnknown:
                    continue
                if image.media_type in media.IMAGES:
                    found.append(await self._configuration(repository, image))
        return [each for each in found if each is not None and each.platform]

    async def _configuration(self, repository: Repository, image: ManifestRecord) -> _Configuration | None:
        described = manifests.parse(image.content, image.media_type).blobs[0]
        if described.size > _LARGEST_CONFIGURATION:
            return None
        try:
            blob = await self._pull.blob(repository, described.digest)
            return msgspec.json.decode(await _content(blob.source), type=_Configuration)
        except (BlobUnknown, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None


async def _content(source: BlobSource) -> bytes:
    return await asyncio.to_thread(source.path.read_bytes) if isinstance(source, LocalFile) else source
