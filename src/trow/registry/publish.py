"""The second half of ``docker push``: a manifest becomes visible, with its tags, in short steps.

Read and check it (pure), hold it against its digest, then store it in one transaction that also looks for what it
refers to.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trow.access.permissions import Permission
from trow.oci import manifest as manifests
from trow.oci.digest import Digest
from trow.oci.errors import (
    DigestMismatch,
    ManifestExists,
    ManifestInvalid,
    TagExists,
    TooManyTags,
    blobs_unknown,
    manifest_unknown,
)
from trow.registry.ports import Publication, PublishRules, TagMove
from trow.registry.presence import lost
from trow.registry.reading import DocumentReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trow.oci.manifest import Manifest
    from trow.oci.names import Reference, Repository, Tag
    from trow.registry.actor import Actor
    from trow.registry.ports import Blobs, Metadata, PublicationResult


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a push.

    Attributes:
        digest: what it is stored under.
        warnings: for the client.
        moves: the tags that moved.
        previous_type: the media type that the manifest had before, where that was another one; else "".
    """

    digest: Digest
    media_type: str
    subject: Digest | None
    warnings: tuple[str, ...]
    moves: tuple[TagMove, ...] = ()
    previous_type: str = ""


class Publish:
    """Stores and deletes manifests and tags.

    Args:
        wrong_sizes: called for each stored manifest that gives content another size than it has, or none.
    """

    def __init__(
        self,
        blobs: Blobs,
        metadata: Metadata,
        rules: PublishRules,
        wrong_sizes: Callable[[], None] = lambda: None,
    ) -> None:
        self._blobs = blobs
        self._metadata = metadata
        self._rules = rules
        self._wrong_sizes = wrong_sizes
        self._reader = DocumentReader()

    async def put(
        self,
        repository: Repository,
        reference: Reference,
        tags: Sequence[Tag],
        content_type: str,
        raw: bytes,
        actor: Actor,
    ) -> Published:
        """Store a manifest under its digest and point tags at it.

        Raises:
            ManifestInvalid, DigestMismatch, ManifestBlobUnknown, TooManyTags, Denied: nothing was stored.
        """
        self._check_tags(reference, tags)
        manifest, digest = await self._reader.read(
            raw, lambda content: (manifests.parse(content, content_type), _digest(content, reference))
        )
        self._check_sizes(manifest)
        pointing = tags if isinstance(reference, Digest) else (reference,)
        if manifest.subject is None or pointing:  # anything but attaching something to what is there
            await actor.require(Permission.PUSH, repository)
        digests = list(dict.fromkeys(blob.digest for blob in manifest.blobs))
        if missing := await lost(self._blobs, self._metadata, repository, digests):
            raise blobs_unknown("the registry has lost the bytes of", missing, "push it again before the manifest")
        publication = Publication(
            repository=repository,
            digest=digest,
            manifest=manifest,
            tags=pointing,
            subject=actor.identity.name,
            rules=self._rules,
            overwrite=False,
        )
        result = await self._store(publication, actor)
        if manifest.unsized or result.wrong_sizes:
            self._wrong_sizes()
        warnings = tuple(_warnings(manifest, result))
        return Published(digest, manifest.media_type, manifest.subject, warnings, result.moves, result.previous_type)

    async def _store(self, publication: Publication, actor: Actor) -> PublicationResult:
        """Require the permission to overwrite only where something is overwritten."""
        if not await self._overwrites(publication):
            with contextlib.suppress(TagExists, ManifestExists):  # it came between the look and the transaction
                return await self._metadata.publish(publication)
        await actor.require(Permission.TAG_OVERWRITE, publication.repository)
        return await self._metadata.publish(replace(publication, overwrite=True))

    async def _overwrites(self, publication: Publication) -> bool:
        for tag in publication.tags:
            present = await self._metadata.tagged_manifest(publication.repository, tag)
            if present is not None and present.digest != publication.digest:
                return True
        there = await self._metadata.manifest(publication.repository, publication.digest)
        return there is not None and there.media_type != publication.manifest.media_type

    async def delete(self, repository: Repository, reference: Reference, subject: str) -> Sequence[TagMove]:
        """Delete a tag, or a manifest with all its tags; each tag that is gone comes with the digest it had.

        Raises:
            ManifestUnknown: there is none.
        """
        if isinstance(reference, Digest):
            tags = await self._metadata.delete_manifest(repository, reference, subject)
            if tags is not None:
                return [TagMove(tag, reference) for tag in tags]
        else:
            digest = await self._metadata.delete_tag(repository, reference, subject)
            if digest is not None:
                return [TagMove(reference, digest)]
        raise manifest_unknown(repository, reference)

    def _check_tags(self, reference: Reference, tags: Sequence[Tag]) -> None:
        if tags and not isinstance(reference, Digest):
            raise ManifestInvalid(
                "tag parameters go with a push by digest, and this one is by tag; push by digest, or leave them out"
            )
        if len(tags) > self._rules.most_tags:
            raise TooManyTags(f"{len(tags)} tag parameters are too many; send at most {self._rules.most_tags}")

    def _check_sizes(self, manifest: Manifest) -> None:
        if manifest.unsized and self._rules.strict_sizes:
            digest = manifest.unsized[0]
            raise ManifestInvalid(
                f"the manifest does not give the size of {digest}, or gives an impossible one; build it again, or"
                " switch off registry.strict_sizes",
                {"digest": digest},
            )


def _digest(raw: bytes, reference: Reference) -> Digest:
    if not isinstance(reference, Digest):
        return Digest.of(raw)
    actual = Digest.of(raw, reference.algorithm)
    if actual != reference:
        raise DigestMismatch(
            f"the manifest has the digest {actual}, not {reference}; send the bytes that belong to it",
            {"claimed": reference, "actual": actual},
        )
    return actual


def _warnings(manifest: Manifest, result: PublicationResult) -> list[str]:
    warnings = []
    wrong = len({*manifest.unsized, *result.wrong_sizes})
    if wrong:
        warnings.append(f"{wrong} sizes in this manifest are wrong or missing; some clients will refuse to pull it")
    if result.missing_blobs:
        warnings.append(f"{len(result.missing_blobs)} blobs of this manifest are not in the repository")
    if result.missing_children:
        warnings.append(f"{len(result.missing_children)} manifests of this index are not in the repository")
    if manifest.foreign:
        warnings.append("non-distributable layers are deprecated, and stay where their urls point")
    return warnings
