"""Manifests: what is pushed, and what is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from trow.metadata import sql
from trow.metadata.transactions import blobs, repositories, tags
from trow.oci.digest import Digest
from trow.oci.errors import ManifestExists, ManifestInvalid, blobs_unknown
from trow.oci.names import Tag
from trow.oci.page import Page
from trow.registry.ports import ManifestRecord, PublicationResult, Referrer
from trow.sql import columns
from trow.sql.transaction import lock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.oci.manifest import Descriptor
    from trow.oci.names import Repository
    from trow.oci.page import PageRequest
    from trow.registry.ports import Publication, TagMove
    from trow.sql.transaction import Row, Transaction


# Larger ones are read from the manifest itself (migration 0006 has the number too).
_LISTED_ANNOTATIONS: Final = 64 * 1024
# What a descriptor has beside its annotations, with room to spare.
_ENTRY_BYTES: Final = 1000


def manifest(
    repository: Repository, digest: Digest, known: ManifestRecord | None = None
) -> Transaction[ManifestRecord | None]:
    """The manifest; ``known`` is what was found there before, whose content need not be sent again."""
    if known is None:
        rows = yield sql.MANIFEST, (repository, digest)
    else:
        rows = yield sql.MANIFEST_BEYOND, (known.digest, repository, digest)
    return _manifest(rows[0], known) if rows else None


def tagged_manifest(
    repository: Repository, tag: Tag, known: ManifestRecord | None = None
) -> Transaction[ManifestRecord | None]:
    """The manifest that a tag points at; ``known`` as in `manifest`."""
    if known is None:
        rows = yield sql.TAGGED_MANIFEST, (repository, repository, tag)
    else:
        rows = yield sql.TAGGED_MANIFEST_BEYOND, (known.digest, repository, repository, tag)
    return _manifest(rows[0], known) if rows else None


def _manifest(row: Row, known: ManifestRecord | None) -> ManifestRecord:
    digest, media_type, content = row
    if known is not None and content is None and media_type == known.media_type:
        return known
    sent = columns.optional_bytes(content)
    if sent is None:
        sent = known.content if known is not None else b""
    return ManifestRecord(Digest(columns.text(digest)), columns.text(media_type), sent)


def publish(publication: Publication, history: int, now: float) -> Transaction[PublicationResult]:
    yield lock(
        exclusive=(tags.name_of(publication.repository, each) for each in (publication.digest, *publication.tags)),
        shared=(publication.repository,),  # with which its links and manifests go
    )
    manifest = publication.manifest
    missing_blobs, wrong_blobs = yield from _held(publication, manifest.blobs, sql.BLOB_SIZES)
    missing_children, wrong_children = yield from _held(publication, manifest.children, sql.MANIFEST_SIZES)
    required = () if publication.rules.sparse_images else missing_blobs
    required += () if publication.rules.sparse_indexes else missing_children
    if required:
        raise blobs_unknown("the repository does not have", required, "push it before the manifest")
    yield from repositories.add(publication, now)
    previous_type = yield from _previous_type(publication)
    annotations = msgspec.json.encode(manifest.annotations) if manifest.annotations else b""
    yield (
        sql.ADD_MANIFEST,
        (
            publication.repository,
            publication.digest,
            manifest.media_type,
            len(manifest.raw),
            manifest.subject,
            manifest.artifact_type,
            len(annotations),
            annotations.decode() if 0 < len(annotations) <= _LISTED_ANNOTATIONS else None,
            now,
            publication.subject,
            manifest.raw,
        ),
    )
    moves: list[TagMove] = []
    for tag in publication.tags:
        moves += yield from tags.point(publication, tag, history, now)
    wrong_sizes = wrong_blobs + wrong_children
    return PublicationResult(missing_blobs, missing_children, tuple(moves), wrong_sizes, previous_type)


def _previous_type(publication: Publication) -> Transaction[str]:
    """What the same bytes were before, where that was something else: clients read them by their media type."""
    rows = yield sql.MEDIA_TYPE, (publication.repository, publication.digest)
    previous = columns.text(rows[0][0]) if rows else publication.manifest.media_type
    if previous == publication.manifest.media_type:
        return ""
    if not publication.overwrite:
        raise ManifestExists(
            f"the manifest is stored as {previous}, and changing that needs the permission tag-overwrite;"
            " push it with that media type",
            {"mediaType": previous},
        )
    return previous


def _held(
    publication: Publication, descriptors: Sequence[Descriptor], statement: str
) -> Transaction[tuple[tuple[Digest, ...], tuple[Digest, ...]]]:
    """Which of these the repository lacks, and which of the others have another size than is said of them."""
    missing: list[Digest] = []
    wrong: list[Digest] = []
    sizes = yield from blobs.sizes(statement, publication.repository, [each.digest for each in descriptors])
    for each in descriptors:
        if each.digest not in sizes:
            missing.append(each.digest)
        elif each.size not in (None, size := sizes[each.digest]):
            if publication.rules.strict_sizes:
                raise ManifestInvalid(
                    f"the manifest says that {each.digest} has {each.size} bytes, and it has {size}; build the manifest"
                    " again, or switch off registry.strict_sizes",
                    {"digest": each.digest},
                )
            wrong.append(each.digest)
    return tuple(missing), tuple(wrong)


def delete_manifest(
    repository: Repository, digest: Digest, subject: str, history: int, now: float
) -> Transaction[Sequence[Tag] | None]:
    yield lock(exclusive=(repository,))  # which goes with its last manifest
    deleted = yield sql.DELETE_MANIFEST, (repository, digest)
    if not deleted:
        return None
    rows = yield sql.TAGS_OF, (repository, digest)
    pointing = [Tag(columns.text(row[0])) for row in rows]
    for tag in pointing:
        yield from tags.remove(repository, tag, subject, history, now)
    yield sql.DROP_EMPTY_REPOSITORY, (repository,)
    return pointing


def referrers(
    repository: Repository, subject: Digest, artifact_type: str | None, page: PageRequest, most_bytes: int
) -> Transaction[Page[Referrer]]:
    kind = artifact_type or ""
    sizes = yield sql.REFERRER_SIZES, (repository, subject, page.last, kind, kind, page.limit + 1)
    fitting = _fitting([columns.integer(row[1]) for row in sizes[: page.limit]], most_bytes)
    if not fitting:
        return Page([], more=False)
    until = columns.text(sizes[fitting - 1][0])
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
    digest, media_type, size, artifact_type, annotations, left_out = row
    return Referrer(
        Digest(columns.text(digest)),
        columns.text(media_type),
        columns.integer(size),
        columns.optional_text(artifact_type),
        columns.optional_text(annotations),
        left_out=bool(left_out),
    )
