"""Upload sessions: those of one process while it does not run, or those that all replicas share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.metadata import sql
from trow.oci.names import Repository, UploadId
from trow.registry.ports import Upload
from trow.sql import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trow.registry.ports import UploadBounds
    from trow.sql.transaction import Row, Transaction, Value


def take() -> Transaction[Sequence[Upload]]:
    """Take all sessions out of the database. Locks nothing: one statement takes each row once."""
    return [_upload(row) for row in (yield sql.TAKE_UPLOADS, ())]


def put(uploads: Sequence[Upload]) -> Transaction[None]:
    """Put sessions into the database. Locks nothing: they are those of one process."""
    for each in uploads:
        yield sql.ADD_UPLOAD, _row(each)


def begin(
    upload: Upload, bounds: UploadBounds, victim: Callable[[Iterable[Upload]], Upload | None]
) -> Transaction[Upload | None]:
    """Open a session; ``victim`` tells which of all gives way where a bound is reached, and raises what refuses it.

    Locks nothing: sessions that are opened in the same moment may go beyond a bound by their number.
    """
    [[total, own, here]] = yield sql.COUNT_UPLOADS, (upload.owner, upload.repository)
    full = zip((total, own, here), (bounds.total, bounds.of_owner, bounds.in_repository), strict=True)
    ended = None
    if any(columns.integer(count) >= bound for count, bound in full):
        ended = victim([_upload(row) for row in (yield sql.UPLOADS, ())])
        if ended is not None:
            yield sql.END_UPLOAD, (ended.id,)
    yield sql.ADD_UPLOAD, _row(upload)
    return ended


def get(upload: UploadId) -> Transaction[Upload | None]:
    rows = yield sql.UPLOAD, (upload,)
    return _upload(rows[0]) if rows else None


def touch(upload: UploadId, at: float, *, empty: bool) -> Transaction[None]:
    """Locks nothing: one statement changes one row."""
    yield sql.TOUCH_UPLOAD, (at, int(empty), upload)


def save(upload: UploadId, version: int, state: str) -> Transaction[bool]:
    """Locks nothing: of two statements with one version, the second finds another one."""
    return bool((yield sql.SAVE_UPLOAD, (state, upload, version)))


def end(upload: UploadId) -> Transaction[bool]:
    """Locks nothing: one statement takes the row."""
    return bool((yield sql.END_UPLOAD, (upload,)))


def expire(before: float, empty_before: float) -> Transaction[Sequence[Upload]]:
    """Locks nothing: one statement takes each row once."""
    return [_upload(row) for row in (yield sql.EXPIRE_UPLOADS, (before, empty_before))]


def _row(upload: Upload) -> tuple[Value, ...]:
    return (
        upload.id,
        upload.repository,
        upload.subject,
        upload.algorithm,
        upload.used_at,
        upload.owner,
        int(upload.empty),
        upload.state,
        upload.version,
    )


def _upload(row: Row) -> Upload:
    upload, repository, subject, algorithm, used_at, owner, empty, state, version = row
    return Upload(
        UploadId(columns.text(upload)),
        Repository(columns.text(repository)),
        columns.text(subject),
        columns.text(algorithm),
        columns.number(used_at),
        columns.text(owner),
        bool(columns.integer(empty)),
        columns.text(state),
        columns.integer(version),
    )
