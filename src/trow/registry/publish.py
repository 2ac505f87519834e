"""The second half of ``docker push``: a manifest becomes visible, with its tags, in short steps.

Read and check it (pure), hold it against its digest, then store it in one transaction that also looks for what it
refers to.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from trow.oci import manifest as manifests
from trow.oci.digest import Digest
from trow.oci.errors import (
    DigestMismatch,
    ManifestInvalid,
    ManifestUnknown,
    TagExists,
    TooManyTags,
    blobs_unknown,
)
from trow.policy.access import Permission
from trow.registry.ports import Publication, TagMove
from trow.registry.presence import lost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trow.oci.manifest import Manifest
    from trow.oci.names import Reference, Repository, Tag
    from trow.registry.ports import Blobs, Metadata, Missing, PublicationResult

# Reading a manifest of this size takes about a millisecond; larger ones are read beside the event loop.
_LARGE: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a push: the digest it is stored under, remarks for the one who pushed, and the tags that moved."""

    digest: Digest
    media_type: str
    subject: Digest | None
    tags: Sequence[Tag]
    remarks: tuple[str, ...]
    moves: tuple[TagMove, ...] = ()


@dataclass(frozen=True, slots=True)
class Author:
    """Who publishes.

    Attributes:
        require: raises `Denied` (or `Unauthorized`) unless the author has the permission for the repository.
    """

    name: str
    require: Callable[[Permission], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class PublishRules:
    """What the operator decided about manifests.

    Attributes:
        sparse_images: accept images some of whose blobs the repository lacks.
        sparse_indexes: accept indexes some of whose manifests the repository lacks.
        history: how many lines of history each tag keeps.
        most_tags: how many ``tag=`` parameters one push may carry.
    """

    sparse_images: bool
    sparse_indexes: bool
    history: int
    most_tags: int


class Publish:
    """Stores and deletes manifests and tags."""

    def __init__(self, blobs: Blobs, metadata: Metadata, rules: PublishRules) -> None:
        self._blobs = blobs
        self._metadata = metadata
        self._rules = rules

    async def put(
        self,
        repository: Repository,
        reference: Reference,
        tags: Sequence[Tag],
        content_type: str,
        raw: bytes,
        author: Author,
    ) -> Published:
        """Store a manifest under its digest and point tags at it.

        Raises:
            ManifestInvalid, DigestMismatch, ManifestBlobUnknown, TooManyTags, Denied: nothing was stored.
        """
        self._check_tags(reference, tags)
        manifest = await _parse(raw, content_type)
        digest = _digest(raw, reference)
        pointing = tags if isinstance(reference, Digest) else (reference,)
        if manifest.subject is None or pointing:  # anything but attaching something to what is there
            await author.require(Permission.PUSH)
        await self._check_bytes(repository, manifest)
        result = await self._store(self._publication(repository, digest, manifest, pointing, author.name), author)
        remarks = tuple(_remarks(manifest, result.missing))
        return Published(digest, manifest.media_type, manifest.subject, pointing, remarks, result.moves)

    async def _check_bytes(self, repository: Repository, manifest: Manifest) -> None:
        """A blob that the repository may lack is one thing, one that it says to have another."""
        digests = [blob.digest for blob in manifest.blobs]
        if missing := await lost(self._blobs, self._metadata, repository, digests):
            raise blobs_unknown("the bytes of this blob are lost here; push it again before the manifest", missing)

    async def _store(self, publication: Publication, author: Author) -> PublicationResult:
        """Ask for the right to overwrite only where there is something to overwrite."""
        if not await self._overwrites(publication):
            with contextlib.suppress(TagExists):  # it came between the look and the transaction
                return await self._metadata.publish(publication)
        await author.require(Permission.TAG_OVERWRITE)
        return await self._metadata.publish(replace(publication, overwrite=True))

    async def _overwrites(self, publication: Publication) -> bool:
        for tag in publication.tags:
            present = await self._metadata.tagged_manifest(publication.repository, tag)
            if present is not None and present.digest != publication.digest:
                return True
        return False

    async def delete(self, repository: Repository, reference: Reference, subject: str) -> Sequence[TagMove]:
        """Delete a tag, or a manifest with all its tags; each tag that is gone comes with the digest it had.

        Raises:
            ManifestUnknown: there is none.
        """
        if isinstance(reference, Digest):
            tags = await self._metadata.delete_manifest(repository, reference, subject, self._rules.history)
            if tags is not None:
                return [TagMove(tag, reference) for tag in tags]
        else:
            digest = await self._metadata.delete_tag(repository, reference, subject, self._rules.history)
            if digest is not None:
                return [TagMove(reference, digest)]
        raise ManifestUnknown("the repository has no such manifest", {"reference": reference})

    def _check_tags(self, reference: Reference, tags: Sequence[Tag]) -> None:
        if tags and not isinstance(reference, Digest):
            raise ManifestInvalid("tag parameters go with a push by digest; this one is by tag")
        if len(tags) > self._rules.most_tags:
            raise TooManyTags(f"{len(tags)} tag parameters are too many; send at most {self._rules.most_tags}")

    def _publication(
        self, repository: Repository, digest: Digest, manifest: Manifest, tags: Sequence[Tag], subject: str
    ) -> Publication:
        return Publication(
            repository=repository,
            digest=digest,
            manifest=manifest,
            tags=tags,
            subject=subject,
            require_blobs=not self._rules.sparse_images,
            require_children=not self._rules.sparse_indexes,
            history=self._rules.history,
            overwrite=False,
        )


async def _parse(raw: bytes, content_type: str) -> Manifest:
    if len(raw) < _LARGE:
        return manifests.parse(raw, content_type)
    return await asyncio.to_thread(manifests.parse, raw, content_type)


def _digest(raw: bytes, reference: Reference) -> Digest:
    if not isinstance(reference, Digest):
        return Digest.of(raw)
    actual = Digest.of(raw, reference.algorithm)
    if actual != reference:
        raise DigestMismatch("the manifest does not have this digest", {"claimed": reference, "actual": actual})
    return actual


def _remarks(manifest: Manifest, missing: Missing) -> list[str]:
    remarks = []
    if missing.blobs:
        remarks.append(f"{len(missing.blobs)} blobs of this manifest are not in the repository")
    if missing.children:
        remarks.append(f"{len(missing.children)} manifests of this index are not in the repository")
    if manifest.foreign:
        remarks.append("non-distributable layers are deprecated and stay where their urls point")
    return remarks
