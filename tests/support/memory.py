"""The stores in memory: twins that fast tests use, with the same contracts as the others."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from trow.lib.levels import excess_of
from trow.oci.digest import Digest
from trow.oci.errors import (
    BlobUnknown,
    ManifestExists,
    ManifestInvalid,
    TagExists,
    Unavailable,
    UploadUnknown,
    blobs_unknown,
)
from trow.oci.page import ALL_NAMES, Page
from trow.registry.location import BlobLocation
from trow.registry.ports import (
    ManifestRecord,
    PublicationResult,
    Redirect,
    Referrer,
    RepositoryRecord,
    ScanPage,
    StorageUsage,
    StoredName,
    Stream,
    TagEvent,
    TagMove,
)

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Callable,
        Collection,
        Mapping,
        Sequence,
    )

    from trow.access.ports import RobotToken
    from trow.oci.manifest import Manifest
    from trow.oci.names import Repository, Tag, UploadId
    from trow.oci.page import NameRange, PageRequest
    from trow.registry.ports import BlobRecord, BlobSource, PendingEvent, Publication

Item = TypeVar("Item")
# As the database has them.
_LISTED_ANNOTATIONS: Final = 64 * 1024
_ENTRY_BYTES: Final = 1000
Form: TypeAlias = Literal["bytes", "stream", "redirect"]
_PIECE: Final = 1024 * 1024


class MemoryBlobs:
    """`Blobs` that are gone with the process, and come to clients in one of the forms that there are."""

    def __init__(self, *, form: Form = "bytes") -> None:
        self._form = form
        self._blobs: dict[BlobLocation, bytes] = {}
        self.quarantined: dict[Digest, bytes] = {}
        self._staged: dict[UploadId, bytearray] = {}

    async def stage(self, upload: UploadId, algorithm: str, owner: str) -> MemoryStaged:
        del algorithm, owner
        return MemoryStaged(self._blobs, self._staged, upload)

    async def resume(self, upload: UploadId, algorithm: str, owner: str, state: str = "") -> MemoryStaged:
        del state
        return await self.stage(upload, algorithm, owner)

    async def locate(self, location: BlobLocation, size: int) -> BlobSource | None:
        content = self._blobs.get(location)
        if content is None or len(content) != size:
            return None
        match self._form:
            case "bytes":
                return content
            case "stream":
                return Stream(partial(self.read, location))
            case "redirect":
                return Redirect(f"https://blobs.example/{location}")

    async def read(self, location: BlobLocation, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        if location not in self._blobs:
            raise BlobUnknown(f"blob {location} is not here")
        content = self._blobs[location][start:end]
        for place in range(0, len(content), _PIECE):
            yield content[place : place + _PIECE]

    async def lost(self, blobs: Sequence[tuple[BlobLocation, int]]) -> Collection[BlobLocation]:
        return {location for location, size in blobs if await self.locate(location, size) is None}

    async def names(self, page: PageRequest) -> Page[StoredName]:
        after = sorted(each for each in self._blobs if each > page.last)
        found = [StoredName(each, each) for each in after[: page.limit]]
        return Page(found, more=len(after) > page.limit)

    async def delete(self, location: BlobLocation) -> bool:
        return self._blobs.pop(location, None) is not None

    async def check(self) -> None: ...

    async def recover(self, known: Callable[[BlobLocation], Awaitable[bool]], *, crashed: bool) -> int:
        del known
        count = len(self._staged) if crashed else 0
        if crashed:
            self._staged.clear()
        return count

    async def quarantine(self, digest: Digest, damaged: BlobLocation | bytes) -> None:
        if isinstance(damaged, BlobLocation) and damaged not in self._blobs:
            raise Unavailable(f"blob {digest} is not here")
        self.quarantined[digest] = self._blobs.pop(damaged) if isinstance(damaged, BlobLocation) else damaged


class MemoryStaged:
    """`Staged` bytes in a dictionary."""

    def __init__(self, blobs: dict[BlobLocation, bytes], staged: dict[UploadId, bytearray], upload: UploadId) -> None:
        self._blobs = blobs
        self._staged = staged
        self._upload = upload
        self._committed: BlobLocation | None = None

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

    async def commit(self, digest: Digest) -> BlobLocation:
        self._committed = BlobLocation.of(digest, self._upload)
        self._blobs[self._committed] = bytes(self._bytes)
        return self._committed

    async def revoke(self) -> None:
        if self._committed is not None:
            self._blobs.pop(self._committed, None)

    async def discard(self) -> None:
        self._staged.pop(self._upload, None)

    async def leave(self) -> None:
        await self.discard()

    async def save(self) -> str:
        return ""

    async def suspend(self) -> None: ...


@dataclass
class Rows:
    """The tables of a `MemoryMetadata`. Values never change, so that a copy of the tables is a copy of all."""

    generation: int = 0
    repositories: dict[Repository, RepositoryRecord] = field(default_factory=dict)
    manifests: dict[tuple[Repository, Digest], Manifest] = field(default_factory=dict)
    tags: dict[tuple[Repository, Tag], Digest] = field(default_factory=dict)
    events: dict[tuple[Repository, Tag], tuple[TagEvent, ...]] = field(default_factory=dict)
    blobs: dict[Digest, BlobRecord] = field(default_factory=dict)
    doomed: dict[BlobLocation, float] = field(default_factory=dict)
    removing: dict[BlobLocation, None] = field(default_factory=dict)
    links: dict[tuple[Repository, Digest], None] = field(default_factory=dict)
    pins: dict[tuple[str, str, str], _Pin] = field(default_factory=dict)

    def copy(self) -> Rows:
        return Rows(self.generation, *(dict(getattr(self, each.name)) for each in fields(self)[1:]))

    def become(self, other: Rows) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(other, each.name))


class _Pin(NamedTuple):
    digest: Digest
    source: str
    used_at: float


class MemoryMetadata:
    """`Metadata`, `RobotTokens`, `Outbox` and `Pins` that are gone with the process.

    Args:
        rows: those of another one are there after a restart.
        clock: seconds since 1970.
        history: how many lines of history each tag keeps.
    """

    def __init__(self, rows: Rows | None = None, clock: Callable[[], float] = time.time, *, history: int = 10) -> None:
        self._rows = rows or Rows()
        self._clock = clock
        self._history = history
        self.robots: dict[str, RobotToken] = {}
        self.outbox: dict[str, PendingEvent] = {}

    def close(self) -> None: ...

    async def check(self) -> None: ...

    @contextlib.asynccontextmanager
    async def _changed(self) -> AsyncIterator[Rows]:
        """Rows that take the place of the others if nothing goes wrong; other requests go on before that."""
        await asyncio.sleep(0)
        rows = self._rows.copy()
        yield rows
        self._rows.become(rows)

    # Repositories

    async def repository(self, repository: Repository) -> RepositoryRecord | None:
        return self._rows.repositories.get(repository)

    async def generation(self) -> int:
        return self._rows.generation

    async def repositories(self, page: PageRequest, within: Sequence[NameRange] = ALL_NAMES) -> Page[str]:
        names = [
            name
            for name in sorted(self._rows.repositories)
            if name > page.last and any(each.after < name < each.before for each in within)
        ]
        return _page(names, page)

    async def search_repositories(
        self, text: str, page: PageRequest, within: Sequence[NameRange] = ALL_NAMES
    ) -> ScanPage:
        found: list[str] = []
        left = page.limit
        for each in within:
            after = max(page.last, each.after)
            if each.before <= page.last:
                continue
            if left <= 0:
                return ScanPage(found, after)
            names = sorted(name for name in self._rows.repositories if after < name < each.before)
            found += [name for name in names[:left] if text in name]
            if len(names) > left:
                return ScanPage(found, names[left - 1])
            left -= len(names)
        return ScanPage(found, None)

    # Manifests

    async def manifest(self, repository: Repository, digest: Digest) -> ManifestRecord | None:
        found = self._rows.manifests.get((repository, digest))
        return None if found is None else ManifestRecord(digest, found.media_type, found.raw)

    async def tagged_manifest(self, repository: Repository, tag: Tag) -> ManifestRecord | None:
        digest = self._rows.tags.get((repository, tag))
        return None if digest is None else await self.manifest(repository, digest)

    async def publish(self, publication: Publication) -> PublicationResult:
        repository, manifest = publication.repository, publication.manifest
        async with self._changed() as rows:
            missing_blobs, missing_children, wrong_sizes = _check_references(rows, publication)
            if repository not in rows.repositories:
                rows.generation += 1
                rows.repositories[repository] = RepositoryRecord(rows.generation, publication.subject)
            before = rows.manifests.get((repository, publication.digest), manifest).media_type
            if before != manifest.media_type and not publication.overwrite:
                raise ManifestExists(f"the manifest is stored as {before}")
            rows.manifests[repository, publication.digest] = manifest
            moves = [move for tag in publication.tags if (move := self._point(rows, publication, tag)) is not None]
        retyped = before if before != manifest.media_type else ""
        return PublicationResult(missing_blobs, missing_children, tuple(moves), wrong_sizes, retyped)

    def _point(self, rows: Rows, publication: Publication, tag: Tag) -> TagMove | None:
        tag.encode()  # no database takes a lone surrogate
        key = (publication.repository, tag)
        previous = rows.tags.get(key)
        if previous == publication.digest:
            return None
        if previous is not None and not publication.overwrite:
            raise TagExists(f"the tag {tag} exists")
        rows.tags[key] = publication.digest
        self._note(rows, key, publication.digest, publication.subject)
        return TagMove(tag, previous)

    def _note(self, rows: Rows, key: tuple[Repository, Tag], digest: Digest | None, subject: str) -> None:
        events = rows.events.get(key, ())
        sequence = 1 + (events[-1].sequence if events else 0)
        events = (*events, TagEvent(sequence, digest, self._clock(), subject))
        rows.events[key] = tuple(event for event in events if event.sequence > sequence - self._history)

    async def delete_manifest(self, repository: Repository, digest: Digest, subject: str) -> Sequence[Tag] | None:
        async with self._changed() as rows:
            if rows.manifests.pop((repository, digest), None) is None:
                return None
            pointing = [key for key, target in rows.tags.items() if key[0] == repository and target == digest]
            for key in pointing:
                del rows.tags[key]
                self._note(rows, key, None, subject)
            if not any(each == repository for each, _ in rows.manifests):
                del rows.repositories[repository]
        return [tag for _, tag in pointing]

    async def referrers(
        self, repository: Repository, subject: Digest, artifact_type: str | None, page: PageRequest, most_bytes: int
    ) -> Page[Referrer]:
        found = sorted(
            digest
            for (where, digest), each in self._rows.manifests.items()
            if where == repository
            and each.subject == subject
            and digest > page.last
            and artifact_type in (None, each.artifact_type)
        )
        shown: list[Referrer] = []
        left = most_bytes
        for digest in found[: page.limit]:
            referrer = _referrer(digest, self._rows.manifests[repository, digest])
            left -= len((referrer.annotations or "").encode()) + _ENTRY_BYTES
            if shown and left < 0:
                break
            shown.append(referrer)
        return Page(shown, more=0 < len(shown) < len(found))

    # Tags

    async def delete_tag(self, repository: Repository, tag: Tag, subject: str) -> Digest | None:
        async with self._changed() as rows:
            digest = rows.tags.pop((repository, tag), None)
            if digest is not None:
                self._note(rows, (repository, tag), None, subject)
        return digest

    async def tags(self, repository: Repository, page: PageRequest) -> Page[str] | None:
        if repository not in self._rows.repositories:
            return None
        return _page(sorted(tag for where, tag in self._rows.tags if where == repository and tag > page.last), page)

    async def was_tagged(self, repository: Repository, tag: Tag, digest: Digest) -> bool:
        events = self._rows.events.get((repository, tag), ())
        return digest in (self._rows.tags.get((repository, tag)), *(event.digest for event in events))

    async def tagged_as(self, repository: Repository, digest: Digest, most: int) -> Sequence[Tag]:
        rows = self._rows
        now = sorted(tag for (where, tag), each in rows.tags.items() if where == repository and each == digest)
        once = sorted(
            tag
            for (where, tag), events in rows.events.items()
            if where == repository and any(event.digest == digest for event in events)
        )
        return [*dict.fromkeys((*now, *once))][:most]

    async def tag_history(self, repository: Repository, tag: Tag, page: PageRequest) -> Page[TagEvent] | None:
        events = [*reversed(self._rows.events.get((repository, tag), ()))]
        if not events and not page.last:
            return None
        return _page([each for each in events if not page.last or each.sequence < int(page.last)], page)

    # Blobs

    async def blob(self, repository: Repository, digest: Digest) -> BlobRecord | None:
        return self._rows.blobs.get(digest) if (repository, digest) in self._rows.links else None

    async def blob_files(self, repository: Repository, digests: Sequence[Digest]) -> Mapping[Digest, BlobRecord]:
        found = {digest: await self.blob(repository, digest) for digest in digests}
        return {digest: each for digest, each in found.items() if each is not None and each.content is None}

    async def link_blob(self, repository: Repository, digest: Digest, record: BlobRecord) -> None:
        async with self._changed() as rows:
            former, location = rows.blobs.get(digest), record.location
            if location is not None and location.early and location in rows.doomed and location not in rows.removing:
                del rows.doomed[location]
            elif location is not None and location.early and not await self.knows_location(None, location):
                raise UploadUnknown("its bytes were removed")
            if former is not None and former.location not in (None, record.location):
                rows.doomed[former.location] = self._clock()
            rows.blobs[digest] = record
            rows.links[repository, digest] = None

    async def knows_location(self, digest: Digest | None, location: BlobLocation) -> bool:
        return any(each.location == location for each in self._rows.blobs.values())

    async def doomed(self, before: float, most: int) -> Sequence[BlobLocation]:
        async with self._changed() as rows:
            old = sorted((since, location) for location, since in rows.doomed.items() if since < before)
            rows.removing.update(dict.fromkeys(location for _, location in old[:most]))
        return [location for _, location in old[:most]]

    async def reserve(self, location: BlobLocation) -> bool:
        async with self._changed() as rows:
            if location in rows.removing or await self.knows_location(None, location):
                return False
            rows.doomed[location] = self._clock()
        return True

    async def forget_doomed(self, locations: Sequence[BlobLocation]) -> None:
        async with self._changed() as rows:
            for location in locations:
                rows.doomed.pop(location, None)
                rows.removing.pop(location, None)

    async def mount_blob(
        self, repository: Repository, digest: Digest, sources: Collection[Repository]
    ) -> Repository | None:
        async with self._changed() as rows:
            found = next((source for source in sources if (source, digest) in rows.links), None)
            if found is not None:
                rows.links[repository, digest] = None
        return found

    async def repositories_with(self, digest: Digest, most: int) -> Sequence[Repository]:
        return sorted(repository for repository, each in self._rows.links if each == digest)[:most]

    async def unlink_blob(self, repository: Repository, digest: Digest) -> bool:
        async with self._changed() as rows:
            if (repository, digest) not in rows.links:
                return False
            del rows.links[repository, digest]
            if rows.blobs[digest].content is not None and not any(each == digest for _, each in rows.links):
                del rows.blobs[digest]
        return True

    async def usage(self) -> StorageUsage:
        return StorageUsage(len(self._rows.blobs), sum(each.size for each in self._rows.blobs.values()))

    # Tokens of programs, what commands did, and pins

    async def robot_token(self, token: str) -> RobotToken | None:
        return self.robots.get(token)

    async def pending_events(self) -> Sequence[PendingEvent]:
        return sorted(self.outbox.values(), key=lambda event: (event.at, event.id))

    async def drop_pending_events(self, events: Sequence[PendingEvent]) -> None:
        for event in events:
            self.outbox.pop(event.id, None)

    async def pin(self, namespace: str, owner: str, image: str, digest: Digest, source: str = "") -> Digest:
        async with self._changed() as rows:
            pin = rows.pins.get((namespace, owner, image), _Pin(digest, source, 0.0))
            rows.pins[namespace, owner, image] = pin._replace(used_at=self._clock())
        return pin.digest

    async def drop_old_pins(self, before: float, most: int) -> None:
        async with self._changed() as rows:
            rows.pins = {key: pin for key, pin in rows.pins.items() if pin.used_at >= before}
            held = dict(Counter(pin.source for pin in rows.pins.values()).most_common())
            for source, number in excess_of(held, max(0, len(rows.pins) - most), 0).items():
                of_source = sorted((pin.used_at, key) for key, pin in rows.pins.items() if pin.source == source)
                for _, key in of_source[:number]:
                    del rows.pins[key]


def _page(items: Sequence[Item], page: PageRequest) -> Page[Item]:
    """The first of them, which come after ``last``."""
    return Page(items[: page.limit], more=page.limit > 0 and len(items) > page.limit)


def _referrer(digest: Digest, manifest: Manifest) -> Referrer:
    annotations = msgspec.json.encode(manifest.annotations).decode() if manifest.annotations else None
    left_out = annotations is not None and len(annotations.encode()) > _LISTED_ANNOTATIONS
    return Referrer(
        digest,
        manifest.media_type,
        len(manifest.raw),
        manifest.artifact_type,
        None if left_out else annotations,
        left_out=left_out,
    )


def _check_references(
    rows: Rows, publication: Publication
) -> tuple[tuple[Digest, ...], tuple[Digest, ...], tuple[Digest, ...]]:
    """What the repository lacks, and what has another size than the manifest says."""
    repository, manifest = publication.repository, publication.manifest
    blobs = {digest: rows.blobs[digest].size for where, digest in rows.links if where == repository}
    children = {digest: len(each.raw) for (where, digest), each in rows.manifests.items() if where == repository}
    lacking = [
        tuple(each.digest for each in named if each.digest not in held)
        for named, held in ((manifest.blobs, blobs), (manifest.children, children))
    ]
    wrong = tuple(
        each.digest
        for named, held in ((manifest.blobs, blobs), (manifest.children, children))
        for each in named
        if each.digest in held and each.size not in (None, held[each.digest])
    )
    if wrong and publication.rules.strict_sizes:
        raise ManifestInvalid("the manifest gives content another size than it has")
    rules = publication.rules
    required = (() if rules.sparse_images else lacking[0]) + (() if rules.sparse_indexes else lacking[1])
    if required:
        raise blobs_unknown("the repository does not have", required, "push it before the manifest")
    return lacking[0], lacking[1], wrong
