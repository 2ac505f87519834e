"""What the use cases need from the outside: bytes by digest, and who links what.

"Absent" is None here; which OCI error that is, the use case decides. Every port raises `Unavailable` (or `StorageFull`)
when it cannot do its work, and then nothing has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from trow.oci.page import ALL_NAMES

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
    from pathlib import Path

    from trow.oci.digest import Digest
    from trow.oci.manifest import Manifest
    from trow.oci.names import Repository, Tag, UploadId
    from trow.oci.page import NameRange, Page, PageRequest
    from trow.registry.location import BlobLocation


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A blob that is a file on this machine."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A blob that the store reads from somewhere else: bytes ``start`` to ``end``, as fast as they are taken."""

    read: Callable[[int, int], AsyncGenerator[bytes, None]]


@dataclass(frozen=True, slots=True)
class Redirect:
    """A blob that clients get for themselves, from an address that is good for a while."""

    url: str


BlobSource: TypeAlias = bytes | LocalFile | Stream | Redirect
"""How a client gets a blob: its bytes, a file that the server sends by itself, a stream, or another address."""


@dataclass(frozen=True, slots=True)
class StoredName:
    """A name in a blob store.

    Attributes:
        name: how the store calls it.
        location: the name, where a blob can have it.
        error: why the store cannot tell what is behind the name; "" when it can.
    """

    name: str
    location: BlobLocation | None
    error: str = ""


class Staged(Protocol):
    """Bytes of one upload session. Nobody sees them before `commit`; after it they are a blob and no longer staged."""

    @property
    def offset(self) -> int:
        """How many bytes are staged."""

    async def write(self, chunks: AsyncIterable[bytes]) -> None:
        """Append all chunks; back-pressure is kept, so memory stays bounded whatever the sender's speed.

        Whatever ends the stream early, bytes that arrived before count, and `offset` tells how many.
        """

    async def truncate(self, size: int) -> None:
        """Forget the bytes behind the first ``size``."""

    async def content(self) -> bytes:
        """All staged bytes; for small content only."""

    async def digest(self, algorithm: str) -> Digest:
        """The digest of all staged bytes."""

    async def commit(self, digest: Digest) -> BlobLocation:
        """Make the staged bytes a blob, durably, and tell where it is: when this returns it survives a power cut.

        The caller has compared `digest` before. A copy that exists already stays where it is.
        """

    async def revoke(self) -> None:
        """Undo a commit whose location the metadata does not know, and never will: the bytes are staged again."""

    async def discard(self) -> None:
        """Forget the bytes, but not what `commit` has made of them; the session is empty."""

    async def leave(self) -> None:
        """Forget the bytes, as `discard` does, but leave it to `recover` or a collector whether the blob is known."""

    async def save(self) -> str:
        """Bring the bytes to where other replicas find them; returns what `resume` needs there, "" if none can."""

    async def suspend(self) -> None:
        """Let go of memory and files between requests; the bytes stay."""


class Blobs(Protocol):
    """Bytes by location. No names and no digests in here: who may read what, and where it is, `Metadata` knows."""

    async def stage(self, upload: UploadId, algorithm: str, owner: str) -> Staged:
        """Start the staged bytes of a session.

        Args:
            upload: the session, which has none yet.
            algorithm: that with which a digest is computed on the way.
            owner: whose share of the work this takes: a user, or a source.
        """

    async def resume(self, upload: UploadId, algorithm: str, owner: str, state: str = "") -> Staged:
        """Go on with the staged bytes that a session may have: those here, or those that `Staged.save` has told of."""

    async def locate(self, location: BlobLocation, size: int) -> BlobSource | None:
        """How a client gets the blob's bytes, None when they are not here."""

    def read(self, location: BlobLocation, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Read a blob, or bytes ``start`` to ``end`` of it, in pieces of a MiB at most.

        Raises:
            BlobUnknown: it is not here.
        """

    async def lost(self, blobs: Sequence[tuple[BlobLocation, int]]) -> Collection[BlobLocation]:
        """Which of these blobs, with their sizes, are not here, or cut short."""

    async def names(self, page: PageRequest) -> Page[StoredName]:
        """What is here, in an order that stays; ``last`` is a name of the page before."""

    async def delete(self, location: BlobLocation) -> bool:
        """Remove bytes that no blob has any more; False when none are here. They may come back with a power cut."""

    async def check(self) -> None:
        """See whether blobs can be stored. Raises `Unavailable` or `StorageFull` when not."""

    async def recover(self, known: Callable[[BlobLocation], Awaitable[bool]], *, crashed: bool) -> int:
        """Remove what an interrupted push has left, before the first one begins; returns how much that was.

        Args:
            known: whether the metadata has a blob there.
            crashed: whether the bytes of open sessions cannot be trusted and go, too.
        """

    async def quarantine(self, digest: Digest, damaged: BlobLocation | bytes) -> None:
        """Move what should be this blob to where nothing serves it: what is at a location, or content itself."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload session, bound to the repository and the subject that opened it (CVE-2026-32589).

    Attributes:
        algorithm: the digest algorithm that the client announced.
        used_at: when it was last noted as used, in seconds since 1970.
        owner: whose share it takes: a user, or a source where no credentials were shown.
        empty: whether no byte has come, and none is on its way.
        state: what the blob store said, where the upload can go on at another replica.
        version: how often that was written.
    """

    id: UploadId
    repository: Repository
    subject: str
    algorithm: str
    used_at: float
    owner: str
    empty: bool = True
    state: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True)
class UploadBounds:
    """How many sessions may be open: in all, of one owner, in one repository."""

    total: int
    of_owner: int
    in_repository: int


@dataclass(frozen=True, slots=True)
class BlobRecord:
    """What metadata knows of a blob: its size in bytes, and its content where it is small, else where that is."""

    size: int
    content: bytes | None
    location: BlobLocation | None = None


@dataclass(frozen=True, slots=True)
class StorageUsage:
    """How many blobs the registry holds, and how many bytes they have."""

    blobs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ManifestRecord:
    """A stored manifest."""

    digest: Digest
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Referrer:
    """One entry of a referrers list.

    Attributes:
        annotations: as JSON, which goes out as it is.
        left_out: whether there are annotations that are larger than a list shows.
    """

    digest: Digest
    media_type: str
    size: int
    artifact_type: str | None
    annotations: str | None
    left_out: bool = False


@dataclass(frozen=True, slots=True)
class TagEvent:
    """One line of a tag's history; ``digest`` is None where the tag was deleted, ``at`` is seconds since 1970."""

    sequence: int
    digest: Digest | None
    at: float
    subject: str


@dataclass(frozen=True, slots=True)
class PublishRules:
    """What the operator decided about manifests.

    Attributes:
        sparse_images: accept images some of whose blobs the repository lacks.
        sparse_indexes: accept indexes some of whose manifests the repository lacks.
        strict_sizes: refuse manifests that give content another size than it has, or none.
        most_tags: how many ``tag=`` parameters one push may carry.
    """

    sparse_images: bool
    sparse_indexes: bool
    strict_sizes: bool
    most_tags: int


@dataclass(frozen=True, slots=True)
class Publication:
    """A manifest on its way into a repository.

    Attributes:
        overwrite: whether a tag that points at something else may be moved, and a manifest may get another media type
            than it has.
    """

    repository: Repository
    digest: Digest
    manifest: Manifest
    tags: Sequence[Tag]
    subject: str
    rules: PublishRules
    overwrite: bool = True


@dataclass(frozen=True, slots=True)
class TagMove:
    """A tag that points at something new; ``previous`` is None where it did not exist."""

    tag: Tag
    previous: Digest | None


@dataclass(frozen=True, slots=True)
class PublicationResult:
    """What a publication changed, and what is wrong with its references.

    Attributes:
        missing_blobs, missing_children: what it refers to and the repository lacks.
        moves: the tags that point at it now and did not before.
        wrong_sizes: content that it gives another size than it has.
        previous_type: the media type that the manifest had before, where that was another one; else "".
    """

    missing_blobs: tuple[Digest, ...] = ()
    missing_children: tuple[Digest, ...] = ()
    moves: tuple[TagMove, ...] = ()
    wrong_sizes: tuple[Digest, ...] = ()
    previous_type: str = ""


@dataclass(frozen=True, slots=True)
class RepositoryRecord:
    """The number of a repository among all that were ever made, and who pushed its first manifest."""

    generation: int
    created_by: str


@dataclass(frozen=True, slots=True)
class ScanPage:
    """What a search has found in a part of the list of repositories.

    Attributes:
        names: those found, in byte order.
        cursor: the last name that was looked at, found or not; None when none follows it.
    """

    names: Sequence[str]
    cursor: str | None


class Metadata(Protocol):
    """Who links what: repositories, tags, manifests and blobs.

    Writes are atomic, and durable when they return. Reads see every write that has returned.
    """

    async def repository(self, repository: Repository) -> RepositoryRecord | None:
        """The repository, None while it has no manifest."""

    async def generation(self) -> int:
        """The number of the repository that was made last; every later one has a higher number."""

    # manifests
    async def manifest(self, repository: Repository, digest: Digest) -> ManifestRecord | None:
        """The manifest with this digest, if this repository has it."""

    async def tagged_manifest(self, repository: Repository, tag: Tag) -> ManifestRecord | None:
        """The manifest that the tag points at now."""

    async def publish(self, publication: Publication) -> PublicationResult:
        """Store a manifest and point its tags at it, all or nothing.

        Raises:
            TagExists: a tag points at something else and may not be moved.
            ManifestExists: it is there as another media type, and may not become this one.
            ManifestBlobUnknown: something it refers to is missing and required.
            ManifestInvalid: it gives content another size than it has, and that is required.
        """

    async def delete_manifest(self, repository: Repository, digest: Digest, subject: str) -> Sequence[Tag] | None:
        """Forget a manifest and every tag that points at it, and name these; None when there was none."""

    # tags
    async def delete_tag(self, repository: Repository, tag: Tag, subject: str) -> Digest | None:
        """Forget a tag, not what it pointed at, which is returned; None when there was none."""

    async def tags(self, repository: Repository, page: PageRequest) -> Page[str] | None:
        """The repository's tags in byte order, None when there is no such repository."""

    async def was_tagged(self, repository: Repository, tag: Tag, digest: Digest) -> bool:
        """Whether the tag points at the digest, or did as far as its history goes back."""

    async def tagged_as(self, repository: Repository, digest: Digest, most: int) -> Sequence[Tag]:
        """The tags of which `was_tagged` is true, up to ``most``; those that point at the digest now come first."""

    async def tag_history(self, repository: Repository, tag: Tag, page: PageRequest) -> Page[TagEvent] | None:
        """What the tag pointed at, newest first (``last`` is a sequence number), None when it never existed."""

    async def repositories(self, page: PageRequest, within: Sequence[NameRange] = ALL_NAMES) -> Page[str]:
        """The names of all repositories that have a manifest, in byte order.

        ``within`` says where to look: ranges in order, none of which overlaps another.
        """

    async def search_repositories(
        self, text: str, page: PageRequest, within: Sequence[NameRange] = ALL_NAMES
    ) -> ScanPage:
        """Which of the next ``limit`` names of that list contain ``text``; nothing behind these is looked at.

        The limit is at least 1. The text has only characters of names, each of which is literal.
        """

    async def referrers(
        self, repository: Repository, subject: Digest, artifact_type: str | None, page: PageRequest, most_bytes: int
    ) -> Page[Referrer]:
        """The manifests that refer to ``subject``, by digest; a page ends early before it has ``most_bytes``."""

    # blobs
    async def blob_files(self, repository: Repository, digests: Sequence[Digest]) -> Mapping[Digest, BlobRecord]:
        """Those of these blobs that the repository links and the blob store keeps, in the order that is asked for."""

    async def blob(self, repository: Repository, digest: Digest) -> BlobRecord | None:
        """What is known of a blob, if this repository links it."""

    async def link_blob(self, repository: Repository, digest: Digest, record: BlobRecord) -> None:
        """Give the repository a blob whose bytes are durable, or come along in ``record``.

        What was known of the blob before is corrected: the bytes were verified, and those elsewhere may be damaged
        without anybody knowing. The location that it had is `doomed` in the same moment.

        Raises:
            UploadUnknown: the location had to be reserved, and its bytes were removed because that was too long ago.
        """

    async def knows_location(self, digest: Digest | None, location: BlobLocation) -> bool:
        """Whether a blob is at the location. Waits for a `link_blob` of ``digest`` that may still come true."""

    async def reserve(self, location: BlobLocation) -> bool:
        """Note that bytes may come to a location before a blob is linked there, or that they still do.

        Where no blob is linked, it is `doomed` from now on. False when its bytes are being removed, or a blob is there
        already.
        """

    async def doomed(self, before: float, most: int) -> Sequence[BlobLocation]:
        """Up to ``most`` locations that have no blob since a time before ``before``. From now on none gets there."""

    async def forget_doomed(self, locations: Sequence[BlobLocation]) -> None:
        """The bytes there are gone."""

    async def mount_blob(
        self, repository: Repository, digest: Digest, sources: Collection[Repository]
    ) -> Repository | None:
        """Link a blob that one of ``sources`` has, and name that one; None when none has it."""

    async def repositories_with(self, digest: Digest, most: int) -> Sequence[Repository]:
        """Some repositories that link the blob, at most ``most``."""

    async def unlink_blob(self, repository: Repository, digest: Digest) -> bool:
        """Take a blob from the repository; False when it had none."""

    async def usage(self) -> StorageUsage:
        """How much the registry holds. Takes time with many blobs."""

    async def check(self) -> None:
        """See whether changes can be made. Raises `Unavailable` when not."""


class Uploads(Protocol):
    """Upload sessions. What is changed here need not be durable: after a crash the client begins again."""

    async def begin(self, upload: Upload, bounds: UploadBounds) -> Upload | None:
        """Open a session. Where a bound is reached the oldest empty one ends for it, and is returned.

        It is one of the same owner where the owner's or the repository's bound is reached; otherwise one of the owner
        who has the most, if that is more than this owner has.

        Raises:
            TooManyRequests: none may end.
        """

    async def get(self, upload: UploadId) -> Upload | None:
        """An open session, None when there is none."""

    async def touch(self, upload: UploadId, at: float, *, empty: bool) -> None:
        """Store that the session was used at ``at``, and whether it has bytes or is about to get some."""

    async def save(self, upload: Upload, state: str) -> Upload | None:
        """Store the state of a session, unless another replica has stored one meanwhile; then None."""

    async def end(self, upload: UploadId) -> bool:
        """Close a session; False when there was none."""

    async def expire(self, before: float, empty_before: float) -> Sequence[Upload]:
        """Close the sessions that were last used before ``before``, empty ones before ``empty_before``; return them."""


@dataclass(frozen=True, slots=True)
class PendingEvent:
    """What a command beside the server did (``at`` is seconds since 1970), until it is in the audit trail."""

    id: str
    at: float
    actor: str
    detail: str


class Outbox(Protocol):
    """What commands beside the server did, until it is in the audit trail."""

    async def pending_events(self) -> Sequence[PendingEvent]:
        """Some of what is not on record yet, the oldest first."""

    async def drop_pending_events(self, events: Sequence[PendingEvent]) -> None:
        """These are in the audit trail."""


class Inventory(Protocol):
    """Everything that the metadata has, for a check that goes on where a part of it is damaged.

    What cannot be read is passed over and told in `damage`. A change returns whether it could be made.
    """

    @property
    def damage(self) -> Sequence[str]:
        """What is wrong with the database, as far as it has been read, a sentence each."""

    async def inspect(self) -> None:
        """Have the database look at itself."""

    def blobs(self) -> AsyncIterator[str]:
        """The digests of all blobs, each once; damage makes anything of them."""

    async def blob(self, digest: Digest) -> tuple[object, object, object] | None:
        """The size of a blob, its content where the metadata keeps it, its location; damage makes anything of them.

        Raises:
            Unavailable: it cannot be read.
        """

    async def knows_location(self, location: BlobLocation) -> bool | None:
        """Whether a blob is there, or was; None when that cannot be read."""

    def manifests(self) -> AsyncIterator[tuple[str, str]]:
        """The repository and the digest of all manifests, each once; damage makes anything of them."""

    async def manifest(self, repository: str, digest: Digest) -> object | None:
        """The content of a manifest; damage makes anything of it.

        Raises:
            Unavailable: it cannot be read.
        """

    async def dangling_links(self) -> Sequence[tuple[str, str]]:
        """The repositories that link blobs that are not known, and the digests of these."""

    async def dangling_tags(self) -> Sequence[tuple[str, str, str]]:
        """The repositories with tags that point at unknown manifests, these tags, and the digests."""

    async def drop_blob(self, digest: Digest) -> bool:
        """Forget a blob and every link to it."""

    async def drop_manifest(self, repository: str, digest: Digest) -> bool:
        """Forget a manifest and every tag that points at it."""

    async def unlink_blob(self, repository: str, digest: str) -> bool:
        """Take a blob from the repository."""

    async def delete_tag(self, repository: str, tag: str) -> bool:
        """Forget a tag."""
