"""What happens in the database, free of any driver.

Each function is a generator that yields statements, is sent their rows and returns its result, so that the same code
runs on a synchronous engine (SQLite) and on an asynchronous one. The driver makes each of them one transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Generator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec

from trow.lib.levels import excess_of
from trow.metadata import sql
from trow.oci.digest import Digest
from trow.oci.errors import ManifestExists, ManifestInvalid, TagExists, blobs_unknown
from trow.oci.names import Repository, Tag, UploadId
from trow.oci.page import NameRange, Page, PageRequest
from trow.policy.access import Permission
from trow.policy.globs import RepositoryGlob
from trow.policy.identity import Grant
from trow.registry.ports import (
    BlobRecord,
    ManifestRecord,
    Missing,
    PendingEvent,
    Publication,
    PublicationResult,
    Referrer,
    RepositoryRecord,
    RobotToken,
    Stored,
    TagEvent,
    TagMove,
    Upload,
)

if TYPE_CHECKING:
    from trow.oci.manifest import Descriptor

Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = Sequence[Value]
Statement: TypeAlias = tuple[str, tuple[Value, ...]]
Result = TypeVar("Result")
Transaction: TypeAlias = Generator[Statement, list[Row], Result]

# Larger ones are read from the manifest itself (migration 0006 has the number too).
_LISTED_ANNOTATIONS: Final = 64 * 1024
# Of those that asked for digests to be kept, the ones with most of them.
_MOST_SOURCES: Final = 10_000
# What a descriptor has beside its annotations, with room to spare.
_ENTRY_BYTES: Final = 1000
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


def repository(name: Repository) -> Transaction[RepositoryRecord | None]:
    """See `Metadata.repository`."""
    rows = yield sql.REPOSITORY, (name,)
    return RepositoryRecord(_number(rows[0][0]), _text(rows[0][1])) if rows else None


def generation() -> Transaction[int]:
    """See `Metadata.generation`."""
    rows = yield sql.GENERATION, ()
    return _number(rows[0][0])


def _add_repository(publication: Publication, now: float) -> Transaction[None]:
    if (yield sql.REPOSITORY, (publication.repository,)):
        return
    rows = yield sql.NEXT_GENERATION, ()
    yield sql.ADD_REPOSITORY, (publication.repository, _number(rows[0][0]), now, publication.subject)


def publish(publication: Publication, now: float) -> Transaction[PublicationResult]:
    """See `Metadata.publish`."""
    missing, wrong_sizes = yield from _check_references(publication)
    yield from _add_repository(publication, now)
    retyped = yield from _previous_type(publication)
    yield from _add_manifest(publication, now)
    moves: list[TagMove] = []
    for tag in publication.tags:
        moves += yield from _point_tag(publication, tag, now)
    return PublicationResult(missing, tuple(moves), wrong_sizes, retyped)


def _previous_type(publication: Publication) -> Transaction[str]:
    """What the same bytes were before, where that was something else: clients read them by their media type."""
    rows = yield sql.MEDIA_TYPE, (publication.repository, publication.digest)
    previous = _text(rows[0][0]) if rows else publication.manifest.media_type
    if previous == publication.manifest.media_type:
        return ""
    if not publication.overwrite:
        raise ManifestExists(
            f"the manifest is here as {previous}, and you may not make it something else, which takes tag-overwrite;"
            " push it as what it is",
            {"mediaType": previous},
        )
    return previous


def _check_references(publication: Publication) -> Transaction[tuple[Missing, tuple[Digest, ...]]]:
    manifest = publication.manifest
    blobs, wrong_blobs = yield from _held(publication, manifest.blobs, sql.BLOB_SIZES)
    children, wrong_children = yield from _held(publication, manifest.children, sql.MANIFEST_SIZES)
    required = (blobs if publication.require_blobs else ()) + (children if publication.require_children else ())
    if required:
        raise blobs_unknown("the repository does not have", required, "push it before the manifest")
    return Missing(blobs, children), wrong_blobs + wrong_children


def _held(
    publication: Publication, descriptors: Sequence[Descriptor], statement: str
) -> Transaction[tuple[tuple[Digest, ...], tuple[Digest, ...]]]:
    """Which of these the repository lacks, and which of the others have another size than is said of them."""
    missing: list[Digest] = []
    wrong: list[Digest] = []
    sizes = yield from _sizes(statement, publication.repository, [each.digest for each in descriptors])
    for each in descriptors:
        if each.digest not in sizes:
            missing.append(each.digest)
        elif each.size not in (None, size := sizes[each.digest]):
            _check_size(publication, each, size)
            wrong.append(each.digest)
    return tuple(missing), tuple(wrong)


def _sizes(statement: str, repository: Repository, digests: Sequence[Digest]) -> Transaction[dict[Digest, int]]:
    """Those that are there: a manifest names up to 25 000, so not one by one."""
    wanted = list(dict.fromkeys(digests))
    sizes: dict[Digest, int] = {}
    for start in range(0, len(wanted), sql.DIGESTS):
        some = wanted[start : start + sql.DIGESTS]
        rows = yield statement, (repository, *some, *some[-1:] * (sql.DIGESTS - len(some)))
        sizes.update((Digest(_text(digest)), _number(size)) for digest, size in rows)
    return sizes


def _check_size(publication: Publication, descriptor: Descriptor, size: int) -> None:
    if publication.require_sizes:
        raise ManifestInvalid(
            f"the manifest says that {descriptor.digest} has {descriptor.size} bytes, and it has {size}; build the"
            " manifest anew, or switch off registry.strict_sizes",
            {"digest": descriptor.digest},
        )


def _add_manifest(publication: Publication, now: float) -> Transaction[None]:
    manifest = publication.manifest
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


def _point_tag(publication: Publication, tag: Tag, now: float) -> Transaction[list[TagMove]]:
    rows = yield sql.TAG, (publication.repository, tag)
    previous = Digest(_text(rows[0][0])) if rows else None
    if previous == publication.digest:
        return []
    # Decided here, where nothing can come between: a right to create is none to overwrite (CVE-2026-31801).
    if previous is not None and not publication.overwrite:
        what = f"the tag {tag} exists, and you may not point it at something else, which takes tag-overwrite"
        raise TagExists(f"{what}; push another tag", {"tag": tag})
    yield sql.SET_TAG, (publication.repository, tag, publication.digest)
    yield from _record(publication.repository, tag, publication.digest, now, publication.subject, publication.history)
    return [TagMove(tag, previous)]


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
) -> Transaction[Sequence[Tag] | None]:
    """See `Metadata.delete_manifest`."""
    deleted = yield sql.DELETE_MANIFEST, (repository, digest)
    if not deleted:
        return None
    rows = yield sql.TAGS_OF, (repository, digest)
    tags = [Tag(_text(row[0])) for row in rows]
    for tag in tags:
        yield from delete_tag(repository, tag, subject, history, now)
    yield sql.DROP_EMPTY_REPOSITORY, (repository,)
    return tags


def delete_tag(repository: Repository, tag: Tag, subject: str, history: int, now: float) -> Transaction[Digest | None]:
    """See `Metadata.delete_tag`."""
    deleted = yield sql.DELETE_TAG, (repository, tag)
    if not deleted:
        return None
    yield from _record(repository, tag, None, now, subject, history)
    return Digest(_text(deleted[0][0]))


# ---- lists


def tags(repository: Repository, page: PageRequest) -> Transaction[Page[str] | None]:
    """See `Metadata.tags`."""
    if not (yield sql.REPOSITORY, (repository,)):
        return None
    rows = yield sql.TAGS, (repository, page.last, page.limit + 1)
    return _names(rows, page)


def repositories(page: PageRequest, within: Sequence[NameRange]) -> Transaction[Page[str]]:
    """See `Metadata.repositories`."""
    rows: list[Row] = []
    for after, before in within:
        if before > page.last and len(rows) <= page.limit:
            rows += yield sql.REPOSITORIES, (max(page.last, after), before, page.limit + 1 - len(rows))
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


def was_tagged(repository: Repository, tag: Tag, digest: Digest) -> Transaction[bool]:
    """See `Metadata.was_tagged`."""
    rows = yield sql.WAS_TAGGED, (repository, tag, digest, repository, tag, digest)
    return bool(rows)


def tagged_as(repository: Repository, digest: Digest, most: int) -> Transaction[Sequence[Tag]]:
    """See `Metadata.tagged_as`."""
    rows = yield sql.TAGGED_AS, (repository, digest, most, repository, digest, most, most)
    return [Tag(_text(row[0])) for row in rows]


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
    digest, media_type, size, artifact_type, annotations, left_out = row
    return Referrer(
        Digest(_text(digest)),
        _text(media_type),
        _number(size),
        _optional_text(artifact_type),
        _optional_text(annotations),
        left_out=bool(left_out),
    )


# ---- blobs


def blob(repository: Repository, digest: Digest) -> Transaction[BlobRecord | None]:
    """See `Metadata.blob`."""
    rows = yield sql.BLOB, (repository, digest)
    return BlobRecord(_number(rows[0][0]), _optional_bytes(rows[0][1])) if rows else None


def blob_files(repository: Repository, digests: Sequence[Digest]) -> Transaction[Sequence[tuple[Digest, int]]]:
    """See `Metadata.blob_files`."""
    sizes = yield from _sizes(sql.BLOB_FILE_SIZES, repository, digests)
    return [(digest, sizes[digest]) for digest in digests if digest in sizes]


def link_blob(repository: Repository, digest: Digest, record: BlobRecord) -> Transaction[None]:
    """See `Metadata.link_blob`."""
    yield sql.ADD_BLOB, (digest, record.size, record.content)
    yield sql.LINK_BLOB, (repository, digest)


def mount_blob(
    repository: Repository, digest: Digest, sources: Collection[Repository]
) -> Transaction[Repository | None]:
    """See `Metadata.mount_blob`."""
    for source in sources:
        if (yield sql.HAS_BLOB, (source, digest)):
            yield sql.LINK_BLOB, (repository, digest)
            return source
    return None


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


# ---- robot tokens


def add_robot_token(token: RobotToken) -> Transaction[None]:
    """Keep a new token."""
    grants = msgspec.json.encode(
        [_StoredGrant(g.repositories, sorted(p.value for p in g.permissions)) for g in token.grants], enc_hook=str
    )
    yield (
        sql.ADD_ROBOT,
        (
            token.id,
            token.name,
            token.secret_hash,
            grants.decode(),
            token.created_at,
            token.created_by,
            token.expires_at,
            token.revoked_at,
        ),
    )
    grants_said = "; ".join(
        f"{','.join(sorted(p.value for p in grant.permissions))} on {grant.repositories}" for grant in token.grants
    )
    yield from _note(token.created_at, token.created_by, f"robot token {token.id} ({token.name}) made: {grants_said}")


def robot_token(token: str) -> Transaction[RobotToken | None]:
    """See `RobotTokens.robot_token`."""
    rows = yield sql.ROBOT, (token,)
    return _robot_token(rows[0]) if rows else None


def robot_tokens() -> Transaction[Sequence[RobotToken]]:
    """All tokens, oldest first."""
    rows = yield sql.ROBOTS, ()
    return [_robot_token(row) for row in rows]


def revoke_robot_token(token: str, at: float, by: str) -> Transaction[bool]:
    """Let a token be good no more; False when there is no such token, or it was revoked before."""
    revoked = yield sql.REVOKE_ROBOT, (at, token)
    if revoked:
        yield from _note(at, by, f"robot token {token} revoked")
    return bool(revoked)


def _note(at: float, actor: str, detail: str) -> Transaction[None]:
    yield sql.ADD_PENDING_EVENT, (secrets.token_hex(16), at, actor, detail)


def pending_events() -> Transaction[Sequence[PendingEvent]]:
    """What waits for the audit trail, oldest first."""
    rows = yield sql.PENDING_EVENTS, ()
    return [PendingEvent(_text(row[0]), _float(row[1]), _text(row[2]), _text(row[3])) for row in rows]


def pin(namespace: str, owner: str, image: str, digest: Digest, source: str, at: float) -> Transaction[Digest]:
    """The digest that the owner's Pods have for the image; the first one counts."""
    ((kept,),) = yield sql.PIN, (namespace, owner, image, digest, source, at)
    return Digest(_text(kept))


def drop_old_pins(before: float, most: int) -> Transaction[None]:
    """Forget what was not used since then; of more than `most`, the oldest of the sources that have most."""
    yield sql.DROP_OLD_PINS, (before,)
    ((count,),) = yield sql.COUNT_PINS, ()
    if (surplus := _number(count) - most) <= 0:
        return
    rows = yield sql.PINS_OF_SOURCES, (_MOST_SOURCES,)
    held = {_text(source): _number(number) for source, number in rows}
    for source, number in excess_of(held, surplus, 0).items():
        if number:
            yield sql.DROP_SURPLUS_PINS, (source, source, number - 1)


def drop_pending_events(events: Sequence[PendingEvent]) -> Transaction[None]:
    """These are on record."""
    for event in events:
        yield sql.DROP_PENDING_EVENT, (event.id,)


class _StoredGrant(msgspec.Struct):
    repositories: str
    permissions: list[str]


_GRANTS: Final = msgspec.json.Decoder(list[_StoredGrant])


def _robot_token(row: Row) -> RobotToken:
    token, name, secret_hash, grants, created_at, created_by, expires_at, revoked_at = row
    return RobotToken(
        _text(token),
        _text(name),
        _text(secret_hash),
        tuple(_grant(each) for each in _GRANTS.decode(_text(grants))),
        _float(created_at),
        _text(created_by),
        None if expires_at is None else _float(expires_at),
        None if revoked_at is None else _float(revoked_at),
    )


def _grant(stored: _StoredGrant) -> Grant:
    return Grant(RepositoryGlob(stored.repositories), frozenset(map(Permission, stored.permissions)))


# ---- upload sessions


def take_uploads() -> Transaction[Sequence[Upload]]:
    """Take all sessions out of the database."""
    rows = yield sql.TAKE_UPLOADS, ()
    return [
        Upload(
            UploadId(_text(upload)),
            Repository(_text(repository)),
            _text(subject),
            _text(algorithm),
            _float(used_at),
            _text(owner),
            bool(_number(empty)),
        )
        for upload, repository, subject, algorithm, used_at, owner, empty in rows
    ]


def put_uploads(uploads: Sequence[Upload]) -> Transaction[None]:
    """Put sessions into the database."""
    for each in uploads:
        row = (each.id, each.repository, each.subject, each.algorithm, each.used_at, each.owner, int(each.empty))
        yield sql.ADD_UPLOAD, row


def probe_write() -> Transaction[None]:
    """A write that changes nothing but needs the database to take writes."""
    yield sql.PROBE_WRITE, ()
