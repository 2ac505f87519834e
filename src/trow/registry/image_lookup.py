"""What this registry knows of an image. Nothing is fetched from anywhere else."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import msgspec

from trow.lib import times
from trow.oci import manifest as manifests
from trow.oci import media
from trow.oci.digest import Digest
from trow.oci.errors import BlobUnknown, ManifestUnknown
from trow.oci.numbers import finite
from trow.policy.facts import ImageConfig, ImageFacts, Need
from trow.registry.reading import DocumentReader

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from trow.oci.names import Repository, Tag
    from trow.policy.images import ImageReference
    from trow.registry.ports import ManifestRecord, Metadata
    from trow.registry.pull import Pull

_ABSENT: Final = ImageFacts(exists=False)
# A configuration has a line for every layer and every variable; anything larger is not one.
_LARGEST_CONFIGURATION: Final = 1024 * 1024
# Configurations that are remembered, by digest.
_MOST_REMEMBERED: Final = 4096
# Platforms of one index that are looked at.
_MOST_PLATFORMS: Final = 64
# Of one digest, that are tried at a pull.
MOST_TAGS: Final = 256
# The platform that BuildKit gives to attestations in an index; no runtime chooses it.
_NO_PLATFORM: Final = {"architecture": "unknown", "os": "unknown"}


class _Child(msgspec.Struct, frozen=True):
    digest: str
    platform: object = None


class _Index(msgspec.Struct, frozen=True):
    """The members of an index by which runtimes choose (image-spec, image-index.md)."""

    manifests: tuple[_Child, ...] | None = None


class _Configuration(msgspec.Struct, frozen=True):
    """The members of an image's configuration that policies ask for (image-spec, config.md)."""

    created: str | None = None
    os: str | None = None
    architecture: str | None = None
    variant: str | None = None

    @property
    def platform(self) -> str:
        """Such as ``linux/arm/v7``; "" where none is named."""
        if self.os in (None, "", "unknown"):
            return ""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @property
    def created_at(self) -> float | None:
        """Seconds of Unix time; None without an offset (RFC 3339)."""
        try:
            return times.parse(self.created or "") / times.MICROSECONDS
        except ValueError:
            return None


_INDEX: Final = msgspec.json.Decoder(_Index, float_hook=finite)
_CONFIGURATION: Final = msgspec.json.Decoder(_Configuration, float_hook=finite)
# For an image that does not say when it was made, or for which platform.
_UNKNOWN: Final = _Configuration()


class LocalImageLookup:
    """Looks images up.

    Args:
        registries: the names of this registry, as images have them.
    """

    def __init__(self, pull: Pull, metadata: Metadata, registries: Collection[str]) -> None:
        self._pull = pull
        self._metadata = metadata
        self._registries = frozenset(registries)
        self._reader = DocumentReader()
        self._cache: dict[Digest, _Configuration] = {}

    async def facts(self, image: ImageReference, needs: Collection[Need]) -> ImageFacts:
        """What is known of an image, as far as it is needed; of another registry's image, that it is not here.

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
        config = await self._config(image.repository, record) if Need.CONFIG in needs else None
        # A tag that once pointed at the digest counts: a Pod can start again after its tag has moved.
        tag_verified = False
        if Need.TAG in needs and image.tag is not None and image.digest is not None:
            tag_verified = await self._metadata.was_tagged(image.repository, image.tag, image.digest)
        return ImageFacts(True, record.digest, tag_verified, config)

    async def tags_of(self, image: ImageReference) -> Sequence[Tag]:
        """The tags that stand for the digest of an image of this registry, or once did, the present ones first.

        Raises:
            Unavailable: the database does not answer.
        """
        if image.registry not in self._registries or image.digest is None:
            return ()
        return await self._metadata.tagged_as(image.repository, image.digest, MOST_TAGS)

    async def _config(self, repository: Repository, record: ManifestRecord) -> ImageConfig:
        """The oldest platform gives the image its age, which is None if one does not say its own."""
        found = await self._configurations(repository, record)
        dates = [each.created_at for each in found]
        known = [date for date in dates if date is not None]
        oldest = min(known) if known and len(known) == len(dates) else None
        return ImageConfig(oldest, tuple(each.platform for each in found if each.platform))

    async def _configurations(self, repository: Repository, record: ManifestRecord) -> Sequence[_Configuration]:
        """The configuration of each platform that this registry has; others cannot run from here."""
        if record.media_type not in media.INDEXES:
            return [await self._configuration(repository, record)]
        listed = (await self._reader.read(record.content, _INDEX.decode)).manifests
        children = [child for child in listed or () if child.platform != _NO_PLATFORM]
        found: list[_Configuration] = []
        for child in children[:_MOST_PLATFORMS]:
            with contextlib.suppress(ManifestUnknown):
                image = await self._pull.manifest(repository, Digest.parse(child.digest))
                found.append(await self._configuration(repository, image))
        return found if len(children) <= _MOST_PLATFORMS else [*found, _UNKNOWN]

    async def _configuration(self, repository: Repository, image: ManifestRecord) -> _Configuration:
        if image.media_type not in media.IMAGES:
            return _UNKNOWN  # an index in an index
        parsed = await self._reader.read(image.content, lambda raw: manifests.parse(raw, image.media_type))
        name = parsed.blobs[0].digest
        try:
            blob = await self._pull.blob(repository, name)  # knowing its digest gives no right to it
            if (known := self._cache.get(name)) is not None:
                return known
            if blob.size > _LARGEST_CONFIGURATION:
                return _UNKNOWN
            found = await self._reader.read(await self._pull.content(blob), _CONFIGURATION.decode)
        except (BlobUnknown, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _UNKNOWN
        if len(self._cache) >= _MOST_REMEMBERED:
            self._cache.clear()  # what is in use comes back at once
        self._cache[name] = found
        return found
