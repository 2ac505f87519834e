"""Upload sessions, while no server runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.metadata import sql
from trow.oci.names import Repository, UploadId
from trow.registry.ports import Upload
from trow.sql import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.sql.transaction import Transaction


def take() -> Transaction[Sequence[Upload]]:
    """Take all sessions out of the database. Locks nothing: one statement takes each row once."""
    rows = yield sql.TAKE_UPLOADS, ()
    return [
        Upload(
            UploadId(columns.text(upload)),
            Repository(columns.text(repository)),
            columns.text(subject),
            columns.text(algorithm),
            columns.number(used_at),
            columns.text(owner),
            bool(columns.integer(empty)),
        )
        for upload, repository, subject, algorithm, used_at, owner, empty in rows
    ]


def put(uploads: Sequence[Upload]) -> Transaction[None]:
    """Put sessions into the database. Locks nothing: they are those of one process."""
    for each in uploads:
        row = (each.id, each.repository, each.subject, each.algorithm, each.used_at, each.owner, int(each.empty))
        yield sql.ADD_UPLOAD, row
