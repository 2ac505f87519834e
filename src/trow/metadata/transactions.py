"""What happens in the database, free of any driver.

Each function is a generator that yields statements, is sent their rows and returns its result, so that the same code
runs on a synchronous engine (SQLite) and on an asynchronous one. The driver makes each of them one transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec

from trow.metadata import sql
from trow.oci.digest import Digest
from trow.oci.errors import ManifestBlobUnknown, ManifestInvalid, OciError
from trow.oci.names import Repository, Tag, UploadId
from trow.oci.page import Page, PageRequest
from trow.registry.ports import (
    BlobRecord,
    ManifestRecord,
    Missing,
    Publication,
    Referrer,
    Stored,
    TagEvent,
    Upload,
)

if TYPE_CHECKING:
    from trow.oci.manifest import Descriptor

Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = Sequence[Value]
Statement: TypeAlias = tuple[str, tuple[Value, ...]]
Result = TypeVar("Result")
Transaction: TypeAlias = Generator[Statement, list[Row], Result]

_ANNOTATIONS: Final = msgspec.json.Decoder(dict[str, str])
_MOST_ERRORS: Final = 100
# What a descriptor has beside its type and its annotations, with room to spare.
_ENTRY_BYTES: Final = 500
_SEQUENCE_END: Final = 2**62


def _text(value: Value) -> str:
    assert isinstance(value, str)  # noqa: S101 - the schema says so
    return value


def _number(value: Value) -> int:
    assert isinstance(value, int)  # noqa: S101
    return value


def _float(value: Value) -> float:
    assert isinstance(value, (int, float))  # noqa: S101
    return float(value)


def _optional_text(value: Value) -> str | None:
    return None if value is None else _text(value)


def _optional_bytes(value: Value) -> bytes | None:
    assert value is None or isinstance(value, bytes)  # noqa: S101
    return value


# ---- manifests and tags


def manifest(repository: Repository, digest: Digest) -> Transaction[ManifestRecord | None]:
    """See `Metadata.manifest`."""
    rows = yield sql.MANIFEST, (repository, digest)
    return _manifest(rows[0]) if rows else None


def tagged_manifest(repository: Repository, tag: Tag) -> Transaction[ManifestRecord | None]:
    """See `Metadata.tagged_manifest`."""
    rows = yield sql.TAGGED_MANIFEST, (repository, repository, tag)
    return _manifest(rows[0]) if rows else None


def _manifest(row: Row) -> ManifestRecord:
    digest, media_type, content = row
    return ManifestRecord(Digest(_text(digest)), _text(media_type), _optional_bytes(content) or b"")


def publish(publication: Publication, now: float) -> Transaction[Missing]:
    """See `Metadata.publish`."""
    missing = yield from _check_references(publication)
    yield sql.ADD_REPOSITORY, (publication.repository,)
    yield from _add_manifest(publication, now)
    for tag in publication.tags:
        yield from _point_tag(publication, tag, now)
    return missing


def _check_references(publication: Publication) -> Transaction[Missing]:
    blobs: list[Digest] = []
    for blob in publication.manifest.blobs:
        rows = yield sql.BLOB_SIZE, (publication.repository, blob.digest)
        if not rows:
            blobs.append(blob.digest)
        else:
            _check_size(blob, _number(rows[0][0]))
    children: list[Digest] = []
    for child in publication.manifest.children:
        rows = yield sql.HAS_MANIFEST, (publication.repository, child.digest)
        if not rows:
            children.append(child.digest)
        else:
            _check_size(child, _number(rows[0][0]))
    required = (blobs if publication.require_blobs else []) + (children if publication.require_children else [])
    if required:
        raise _unknown(required)
    return Missing(tuple(blobs), tuple(children))


def _check_size(descriptor: Descriptor, size: int) -> None:
    if descriptor.size != size:
        raise ManifestInvalid(
            f"the manifest says that {descriptor.digest} has {descriptor.size} bytes; it has {size}",
            {"digest": descriptor.digest},
        )


def _unknown(digests: Sequence[Digest]) -> OciError:
    first, *others = (
        ManifestBlobUnknown("the repository does not have this content; push it before the manifest", {"digest": d})
        for d in digests[:_MOST_ERRORS]
    )
    return ManifestBlobUnknown(first.message, first.detail, tuple(others))


def _add_manifest(publication: Publication, now: float) -> Transaction[None]:
    manifest = publication.manifest
    yield (
        sql.ADD_MANIFEST,
        (
            publication.repository,
            publication.digest,
            manifest.media_type,
            len(manifest.raw),
            manifest.subject,
            manifest.artifact_type,
            msgspec.json.encode(manifest.annotations).decode() if manifest.annotations else None,
            now,
            publication.subject,
            manifest.raw,
        ),
    )


def _point_tag(publication: Publication, tag: Tag, now: float) -> Transaction[None]:
    rows = yield sql.TAG, (publication.repository, tag)
    if rows and rows[0][0] == publication.digest:
        return
    yield sql.SET_TAG, (publication.repository, tag, publication.digest)
    yield from _record(publication.repository, tag, publication.digest, now, publication.subject, publication.history)


def _record(
    repository: Repository, tag: Tag, digest: Digest | None, now: float, subject: str, history: int
) -> Transaction[None]:
    rows = yield sql.LAST_TAG_EVENT, (repository, tag)
    sequence = 1 + (_number(rows[0][0]) if rows[0][0] is not None else 0)
    yield sql.ADD_TAG_EVENT, (repository, tag, sequence, digest, now, subject)
    if sequence > history:
        yield sql.TRIM_TAG_EVENTS, (repository, tag, sequence - history)


def delete_manifest(
    repository: Repository, digest: Digest, subject: str, history: int, now: float
) -> Transaction[bool]:
    """See `Metadata.delete_manifest`."""
    deleted = yield sql.DELETE_MANIFEST, (repository, digest)
    if not deleted:
        return False
    tags = yield sql.TAGS_OF, (repository, digest)
    for row in tags:
        yield from delete_tag(repository, Tag(_text(row[0])), subject, history, now)
    yield sql.DROP_EMPTY_REPOSITORY, (repository,)
    return True


def delete_tag(repository: Repository, tag: Tag, subject: str, history: int, now: float) -> Transaction[bool]:
    """See `Metadata.delete_tag`."""
    deleted = yield sql.DELETE_TAG, (repository, tag)
    if deleted:
        yield from _record(repository, tag, None, now, subject, history)
    return bool(deleted)


# ---- lists


def tags(repository: Repository, page: PageRequest) -> Transaction[Page[str] | None]:
    """See `Metadata.tags`."""
    if not (yield sql.HAS_REPOSITORY, (repository,)):
        return None
    rows = yield sql.TAGS, (repository, page.last, page.limit + 1)
    return _names(rows, page)


def repositories(page: PageRequest) -> Transaction[Page[str]]:
    """See `Metadata.repositories`."""
    rows = yield sql.REPOSITORIES, (page.last, page.limit + 1)
    return _names(rows, page)


def _names(rows: list[Row], page: PageRequest) -> Page[str]:
    names = [_text(row[0]) for row in rows[: page.limit]]
    return Page(names, more=page.limit > 0 and len(rows) > page.limit)


def tag_history(repository: Repository, tag: Tag, page: PageRequest) -> Transaction[Page[TagEvent] | None]:
    """See `Metadata.tag_history`."""
    before = int(page.last) if page.last else _SEQUENCE_END
    rows = yield sql.TAG_EVENTS, (repository, tag, before, page.limit + 1)
    if not rows and not page.last:
        return None
    events = [_event(row) for row in rows[: page.limit]]
    return Page(events, more=page.limit > 0 and len(rows) > page.limit)


def _event(row: Row) -> TagEvent:
    sequence, digest, at, subject = row
    name = _optional_text(digest)
    return TagEvent(_number(sequence), Digest(name) if name else None, _float(at), _text(subject))


def referrers(
    repository: Repository, subject: Digest, artifact_type: str | None, page: PageRequest, most_bytes: int
) -> Transaction[Page[Referrer]]:
    """See `Metadata.referrers`."""
    kind = artifact_type or ""
    sizes = yield sql.REFERRER_SIZES, (repository, subject, page.last, kind, kind, page.limit + 1)
    fitting = _fitting([_number(row[1]) for row in sizes[: page.limit]], most_bytes)
    if not fitting:
        return Page([], more=False)
    until = _text(sizes[fitting - 1][0])
    rows = yield sql.REFERRERS, (repository, subject, page.last, until, kind, kind)
    return Page([_referrer(row) for row in rows], more=len(sizes) > fitting)


def _fitting(sizes: list[int], most_bytes: int) -> int:
    """How many entries a page may have; at least one, so that every page moves on."""
    total = 0
    for count, size in enumerate(sizes):
        total += size + _ENTRY_BYTES
        if total > most_bytes:
            return max(1, count)
    return len(sizes)


def _referrer(row: Row) -> Referrer:
    digest, media_type, size, artifact_type, annotations = row
    return Referrer(
        Digest(_text(digest)),
        _text(media_type),
        _number(size),
        _optional_text(artifact_type),
        _ANNOTATIONS.decode(_text(annotations)) if annotations is not None else None,
    )


# ---- blobs


def blob(repository: Repository, digest: Digest) -> Transaction[BlobRecord | None]:
    """See `Metadata.blob`."""
    rows = yield sql.BLOB, (repository, digest)
    return BlobRecord(_number(rows[0][0]), _optional_bytes(rows[0][1])) if rows else None


def link_blob(repository: Repository, digest: Digest, record: BlobRecord) -> Transaction[None]:
    """See `Metadata.link_blob`."""
    yield sql.ADD_BLOB, (digest, record.size, record.content)
    yield sql.LINK_BLOB, (repository, digest)


def mount_blob(repository: Repository, digest: Digest, sources: Collection[Repository]) -> Transaction[bool]:
    """See `Metadata.mount_blob`."""
    for source in sources:
        if (yield sql.HAS_BLOB, (source, digest)):
            yield sql.LINK_BLOB, (repository, digest)
            return True
    return False


def repositories_with(digest: Digest, most: int) -> Transaction[Sequence[Repository]]:
    """See `Metadata.repositories_with`."""
    rows = yield sql.REPOSITORIES_WITH, (digest, most)
    return [Repository(_text(row[0])) for row in rows]


def unlink_blob(repository: Repository, digest: Digest) -> Transaction[bool]:
    """See `Metadata.unlink_blob`; content that lives here goes with its last link."""
    unlinked = yield sql.UNLINK_BLOB, (repository, digest)
    if unlinked:
        yield sql.DROP_UNLINKED_CONTENT, (digest,)
    return bool(unlinked)


def knows_blob(digest: Digest) -> Transaction[bool]:
    """See `Metadata.knows_blob`."""
    return bool((yield sql.KNOWN_BLOB, (digest,)))


def stored() -> Transaction[Stored]:
    """How many blobs there are, and their bytes."""
    rows = yield sql.STORED, ()
    return Stored(_number(rows[0][0]), _number(rows[0][1]))


# ---- upload sessions


def take_uploads() -> Transaction[Sequence[Upload]]:
    """Take all sessions out of the database."""
    rows = yield sql.TAKE_UPLOADS, ()
    return [
        Upload(UploadId(_text(i)), Repository(_text(repository)), _text(subject), _text(algorithm), _float(used_at))
        for i, repository, subject, algorithm, used_at in rows
    ]


def put_uploads(uploads: Sequence[Upload]) -> Transaction[None]:
    """Put sessions into the database."""
    for each in uploads:
        yield sql.ADD_UPLOAD, (each.id, each.repository, each.subject, each.algorithm, each.used_at)


def probe_write() -> Transaction[None]:
    """A write that changes nothing but needs the database to take writes."""
    yield sql.PROBE_WRITE, ()
