"""Who links what, in any SQL engine."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Final

from trow.metadata.transactions import blobs, manifests, pins, repositories, robots, tags
from trow.oci.page import ALL_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from trow.access.ports import RobotToken
    from trow.metadata.manifest_cache import ManifestCache
    from trow.oci.digest import Digest
    from trow.oci.names import Reference, Repository, Tag
    from trow.oci.page import NameRange, Page, PageRequest
    from trow.registry.location import BlobLocation
    from trow.registry.ports import (
        BlobRecord,
        ManifestRecord,
        PendingEvent,
        Publication,
        PublicationResult,
        Referrer,
        RepositoryRecord,
        ScanPage,
        StorageUsage,
        TagEvent,
    )
    from trow.sql.engine import Engine
    from trow.sql.transaction import Factory

# The package of the steps of the schema.
SCHEMA: Final = "trow.metadata.migrations"


class SqlMetadata:
    """`Metadata`, `RobotTokens`, `Pins` and `Outbox` in a database.

    Args:
        engine: where the transactions run.
        cache: of manifests; every change has to pass through here.
        history: how many lines of history each tag keeps.
        clock: seconds since 1970.
    """

    def __init__(
        self, engine: Engine, cache: ManifestCache, history: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._engine = engine
        self._cache = cache
        self._history = history
        self._clock = clock

    # ---- repositories

    async def repository(self, repository: Repository) -> RepositoryRecord | None:
        record = self._cache.repository(repository)
        if record is None:
            changes = self._cache.changes
            record = await self._engine.read(partial(repositories.repository, repository))
            if record is not None and changes == self._cache.changes:
                self._cache.put_repository(repository, record)
        return record

    async def generation(self) -> int:
        return await self._engine.read(repositories.generation)

    async def repositories(self, page: PageRequest, within: Sequence[NameRange] = ALL_NAMES) -> Page[str]:
        return await self._engine.page(partial(repositories.repositories, page, within))

    async def search_repositories(
        self, text: str, page: PageRequest, within: Sequence[NameRange] = ALL_NAMES
    ) -> ScanPage:
        return await self._engine.page(partial(repositories.search, text, page, within))

    # ---- manifests

    async def manifest(self, repository: Repository, digest: Digest) -> ManifestRecord | None:
        found = self._cache.get(repository, digest)
        return found or await self._look_up(repository, digest, partial(manifests.manifest, repository, digest))

    async def tagged_manifest(self, repository: Repository, tag: Tag) -> ManifestRecord | None:
        found = self._cache.get(repository, tag)
        return found or await self._look_up(repository, tag, partial(manifests.tagged_manifest, repository, tag))

    async def _look_up(
        self, repository: Repository, reference: Reference, make: Factory[ManifestRecord | None]
    ) -> ManifestRecord | None:
        changes = self._cache.changes
        record = await self._engine.read(make)
        # What was read before a change must not be cached after it: some engines run writes meanwhile.
        if record is not None and changes == self._cache.changes:
            self._cache.put(repository, reference, record)
        return record

    async def publish(self, publication: Publication) -> PublicationResult:
        return await self._engine.write(
            partial(manifests.publish, publication, self._history, self._clock()),
            committed=lambda: self._cache.invalidate(publication.repository),
        )

    async def delete_manifest(self, repository: Repository, digest: Digest, subject: str) -> Sequence[Tag] | None:
        return await self._engine.write(
            partial(manifests.delete_manifest, repository, digest, subject, self._history, self._clock()),
            frees=True,
            committed=lambda: self._cache.invalidate(repository),
        )

    async def referrers(
        self, repository: Repository, subject: Digest, artifact_type: str | None, page: PageRequest, most_bytes: int
    ) -> Page[Referrer]:
        return await self._engine.page(
            partial(manifests.referrers, repository, subject, artifact_type, page, most_bytes)
        )

    # ---- tags

    async def delete_tag(self, repository: Repository, tag: Tag, subject: str) -> Digest | None:
        return await self._engine.write(
            partial(tags.delete_tag, repository, tag, subject, self._history, self._clock()),
            frees=True,
            committed=lambda: self._cache.invalidate(repository),
        )

    async def tags(self, repository: Repository, page: PageRequest) -> Page[str] | None:
        return await self._engine.page(partial(tags.tags, repository, page))

    async def was_tagged(self, repository: Repository, tag: Tag, digest: Digest) -> bool:
        return await self._engine.read(partial(tags.was_tagged, repository, tag, digest))

    async def tagged_as(self, repository: Repository, digest: Digest, most: int) -> Sequence[Tag]:
        return await self._engine.read(partial(tags.tagged_as, repository, digest, most))

    async def tag_history(self, repository: Repository, tag: Tag, page: PageRequest) -> Page[TagEvent] | None:
        return await self._engine.page(partial(tags.tag_history, repository, tag, page))

    # ---- blobs

    async def blob(self, repository: Repository, digest: Digest) -> BlobRecord | None:
        return await self._engine.read(partial(blobs.blob, repository, digest))

    async def blob_files(self, repository: Repository, digests: Sequence[Digest]) -> Mapping[Digest, BlobRecord]:
        return await self._engine.read(partial(blobs.blob_files, repository, digests))

    async def link_blob(self, repository: Repository, digest: Digest, record: BlobRecord) -> None:
        await self._engine.write(partial(blobs.link_blob, repository, digest, record, self._clock()))

    async def knows_location(self, digest: Digest | None, location: BlobLocation) -> bool:
        del digest  # what a process alone has been refused does not come true any more, so there is nothing to wait for
        return await self._engine.read(partial(blobs.knows_location, location))

    async def reserve(self, location: BlobLocation) -> bool:
        return await self._engine.write(partial(blobs.reserve, location, self._clock()))

    async def doomed(self, before: float, most: int) -> Sequence[BlobLocation]:
        found = await self._engine.read(partial(blobs.doomed, before, most))
        return await self._engine.write(partial(blobs.remove_doomed, found, before), frees=True) if found else ()

    async def forget_doomed(self, locations: Sequence[BlobLocation]) -> None:
        await self._engine.write(partial(blobs.forget_doomed, locations), frees=True)

    async def mount_blob(
        self, repository: Repository, digest: Digest, sources: Collection[Repository]
    ) -> Repository | None:
        return await self._engine.write(partial(blobs.mount_blob, repository, digest, sources))

    async def repositories_with(self, digest: Digest, most: int) -> Sequence[Repository]:
        return await self._engine.read(partial(blobs.repositories_with, digest, most))

    async def unlink_blob(self, repository: Repository, digest: Digest) -> bool:
        return await self._engine.write(partial(blobs.unlink_blob, repository, digest), frees=True)

    async def usage(self) -> StorageUsage:
        return await self._engine.scan(blobs.usage)

    async def check(self) -> None:
        await self._engine.check()

    # ---- tokens of programs, and what commands beside the server did

    async def robot_token(self, token: str) -> RobotToken | None:
        return await self._engine.read(partial(robots.robot_token, token))

    async def pending_events(self) -> Sequence[PendingEvent]:
        return await self._engine.read(robots.pending_events)

    async def drop_pending_events(self, events: Sequence[PendingEvent]) -> None:
        await self._engine.write(partial(robots.drop_pending_events, events), frees=True)

    # ---- pins

    async def pin(self, namespace: str, owner: str, image: str, digest: Digest, source: str = "") -> Digest:
        return await self._engine.write(partial(pins.pin, namespace, owner, image, digest, source, self._clock()))

    async def drop_old_pins(self, before: float, most: int) -> None:
        await self._engine.write(partial(pins.drop_old_pins, before, most), frees=True)
